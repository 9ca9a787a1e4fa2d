"""Store and journal on one SQLite file: the default without Redis and Kafka, and the twin for tests.

database.py     the file, its one writing thread, group commit
schema.py       tables, opening, older layouts, damage
journal.py      events: appended in batches, read by cursor, kept for a bounded while (ports.Journal)
store.py        station state, commands, and the way in to the next three (ports.Store)
identities.py   identities, the files they came from, security profiles
denylist.py     revoked certificates
attempts.py     who tried to connect, bounded
turns.py        one change at a time for each key; who is told of changes
"""

from ocppgw.net.embedded.database import Database
from ocppgw.net.embedded.journal import SqliteJournal
from ocppgw.net.embedded.store import SqliteStore

__all__ = ["Database", "SqliteJournal", "SqliteStore"]
