"""Store and journal on one SQLite file: the default without Redis and Kafka, and the twin for tests.

database.py   the file, its one writing thread, group commit
schema.py     tables, opening, damage
journal.py    events: appended in batches, read by cursor, kept for a bounded while (ports.Journal)
store.py      identities, station state, commands (ports.Store)
"""

from ocppgw.net.embedded.database import Database
from ocppgw.net.embedded.journal import SqliteJournal
from ocppgw.net.embedded.store import SqliteStore

__all__ = ["Database", "SqliteJournal", "SqliteStore"]
