"""Every failure the gateway names: a stable code for programs, and the sentence an operator reads.

One tree, so that an edge (CLI, HTTP, log) can catch `OcppgwError` and print `code` and `str(error)` without knowing the
room it came from. Wire names of OCPP errors are data of the version (`ocppgw.ocpp.versions`), not classes.
"""


class OcppgwError(Exception):
    """Base of all named failures.

    `code` is stable and machine-readable (UpperCamelCase); the message is one sentence that says what is wrong and
    where; `hint` says how to mend it ("" when there is nothing to add).
    """

    code = "InternalError"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message


class ConfigError(OcppgwError):
    """The configuration can't be used; the message lists every problem found."""

    code = "ConfigInvalid"


class StoreError(OcppgwError):
    """The embedded store or journal can't be opened, read or written."""

    code = "StoreUnavailable"


class StoreDamaged(StoreError):
    """The database file is not a healthy SQLite database; it is never replaced silently."""

    code = "StoreDamaged"


class BusError(OcppgwError):
    """The bus (Kafka) did not take records, or can't be used as it is configured."""

    code = "BusUnavailable"


class Overloaded(OcppgwError):
    """A bounded queue is full; the policy is to refuse the newest."""

    code = "Overloaded"


class CommandError(OcppgwError):
    """A command can't be accepted as it stands; `code` is the `error.code` of its CommandFailed event."""

    code = "InvalidCommand"


class AddressInUse(OcppgwError):
    """A listener's port is taken."""

    code = "AddressInUse"
