"""The names of the keys that hold what stations and commands have come to, shared by all nodes.

command-audit:{commandId}                  string  a command's record: JSON (outside contract, section 2)
command-audit:unique:{uniqueId}            string  the commandId under whose CALL's message id it went out
open-commands                              zset    commandIds without an end, by deadline
waiting-commands:{chargePointId}           zset    commandIds that wait for the station, by the time of request
unpublished-commands(:ends)                zset and hash  ends whose event is not known to be durable; since when
station-state:{chargePointId}              hash    epoch, body: boot state, recent answers, connectors (msgpack)
{chargePointId}:{uniqueId}                 string  the frame that answered a CALL (outside contract, section 2)
transaction:{chargePointId}:{id}           string  a transaction: JSON
open-transactions:{chargePointId}          set     ids of those that have not ended
transaction-key:{chargePointId}:{digest}   string  the id that was given for a start with this idempotency key
transaction-ids                            string  the highest transactionId given
identity-files                             hash    chargePointId → digest of the identity file that was taken last
"""

from hashlib import sha256


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

    def answer(self, charge_point_id: str, message_id: str) -> str:
        return f"{self.front}{charge_point_id}:{message_id}"

    def transaction(self, charge_point_id: str, transaction_id: str = "") -> str:
        return f"{self.transactions}{charge_point_id}:{transaction_id}"

    def opened(self, charge_point_id: str) -> str:
        return self.open_transactions + charge_point_id

    def start(self, charge_point_id: str, key: str) -> str:
        """`key`: the idempotency key of a StartTransaction; it may be long and hold anything."""
        return f"{self.transaction_keys}{charge_point_id}:{sha256(key.encode()).hexdigest()}"
