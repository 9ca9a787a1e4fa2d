"""The names of the keys that hold what stations and commands have come to, shared by all nodes.

command-audit:{commandId}                  string  a command's record: JSON (outside contract, section 2)
command-audit:unique:{uniqueId}            string  the commandId under whose CALL's message id it went out
open-commands                              zset    commandIds without an end, by deadline
waiting-commands:{chargePointId}           zset    commandIds that wait for the station, by the time of request
unpublished-commands(:ends)                zset and hash  ends whose event is not known to be durable; since when
station-state:{chargePointId}              hash    epoch, body: boot state, recent answers, connectors, memory (msgpack)
{chargePointId}:{uniqueId}                 string  the frame that answered a CALL (outside contract, section 2)
transaction:{chargePointId}:{id}           string  a transaction: JSON
open-transactions:{chargePointId}          set     ids of those that have not ended
transaction-key:{chargePointId}:{digest}   string  the id that was given for a start with this idempotency key
transaction-ids                            string  the highest transactionId given
identity-files                             hash    chargePointId → digest of the identity file that was taken last

Stations choose their message ids and (2.x) their transactions' ids, and a station's own id may hold a colon. So that
none of them can name another one's key, colons in a transaction's id are escaped, and a reply is not written under a
key that could be another one.
"""

from collections.abc import Iterable
from hashlib import sha256

from ocppgw.net.redis.keys import Keys

_ESCAPES = str.maketrans({"%": "%25", ":": "%3A"})


class FleetKeys:
    def __init__(self, prefix: str) -> None:
        front = f"{prefix}:" if prefix else ""
        self.front = front
        self.commands = f"{front}command-audit:"
        self.unique = f"{front}command-audit:unique:"
        self.open_commands = f"{front}open-commands"
        self.waiting = f"{front}waiting-commands:"
        self.unpublished = f"{front}unpublished-commands"
        self.unpublished_ends = f"{front}unpublished-commands:ends"
        self.states = f"{front}station-state:"
        self.transactions = f"{front}transaction:"
        self.open_transactions = f"{front}open-transactions:"
        self.transaction_keys = f"{front}transaction-key:"
        self.transaction_ids = f"{front}transaction-ids"
        self.identity_files = f"{front}identity-files"

    def command(self, command_id: str) -> str:
        return self.commands + command_id

    def waiting_for(self, charge_point_id: str) -> str:
        return self.waiting + charge_point_id

    def state(self, charge_point_id: str) -> str:
        return self.states + charge_point_id

    def transaction(self, charge_point_id: str, transaction_id: str = "") -> str:
        return f"{self.transactions}{charge_point_id}:{escaped(transaction_id)}"

    def opened(self, charge_point_id: str) -> str:
        return self.open_transactions + charge_point_id

    def start(self, charge_point_id: str, key: str) -> str:
        """`key`: the idempotency key of a StartTransaction; it may be long and hold anything."""
        return f"{self.transaction_keys}{charge_point_id}:{sha256(key.encode()).hexdigest()}"


class ReplyKeys:
    """Keys of replies. `taken`: what other keys are, or, where they end with a colon, begin with."""

    def __init__(self, front: str, taken: Iterable[str]) -> None:
        self._front = front
        names = [*taken, f"{front}rate:", f"{front}log:"]
        self._names = frozenset(name for name in names if not name.endswith(":"))
        self._families = tuple(name for name in names if name.endswith(":"))

    def of(self, charge_point_id: str, message_id: str) -> str | None:
        """None for one that could be another key."""
        key = f"{self._front}{charge_point_id}:{message_id}"
        if ":" in message_id or key in self._names or key.startswith(self._families):
            return None
        return key


def reply_keys(keys: Keys, fleet: FleetKeys) -> ReplyKeys:
    """Apart from all that the two hold."""
    held = [*vars(keys).values(), *vars(fleet).values()]
    return ReplyKeys(fleet.front, [name for name in held if isinstance(name, str) and name != fleet.front])


def escaped(transaction_id: str) -> str:
    """As it stands in keys, and in the sets of open transactions."""
    return transaction_id.translate(_ESCAPES)
