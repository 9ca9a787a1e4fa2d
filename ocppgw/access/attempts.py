"""What is remembered of a connection attempt, let in or not: enough to tell a field engineer why, without secrets.

An attempt is written as JSON when it happens and decoded only when somebody asks. The query of the URL is left out
(it may hold a token), and so is every header but the list of subprotocols.
"""

from typing import Any

import msgspec

from ocppgw.access.hello import read_hello
from ocppgw.access.refusals import BY_CODE
from ocppgw.ocpp.timestamps import rfc3339

ADMITTED = "Admitted"
MAX_URL = 300
MAX_SUBPROTOCOLS = 10
MAX_SUBPROTOCOL = 60


class Certificate(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The client certificate of an attempt; `binding` says which binding failed and how ("" when one matched)."""

    subject: str
    fingerprint: str
    common_name: str = ""
    serial_number: str = ""
    issuer: str = ""
    not_after: float = 0.0
    binding: str = ""


class Attempt(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One attempt. `at` in seconds since the epoch; `outcome` is Admitted or a refusal's code; `status` the HTTP
    status, 0 when it never came to one; `close_code` that of an open connection that was cut later; `address` the
    station's, `proxy` that of the proxy in front of it; `method` what it proved itself with; `hello` its raw
    ClientHello."""

    at: float
    outcome: str
    address: str
    status: int = 0
    close_code: int = 0
    detail: str = ""
    charge_point_id: str = ""
    proxy: str = ""
    listener: str = ""
    url: str = ""
    subprotocols: tuple[str, ...] = ()
    subprotocol: str = ""
    method: str = ""
    security_profile: int | None = None
    tls_version: str = ""
    cipher: str = ""
    server_name: str = ""
    alert: str = ""
    resumed: bool = False
    hello: bytes = b""
    certificate: Certificate | None = None


class StoredAttempt(msgspec.Struct, frozen=True):
    """An attempt on its way to the store: its JSON, and beside it what it is looked for by ("" where there is none)."""

    at: float
    charge_point_id: str
    address: str
    fingerprint: str
    common_name: str
    refused: bool
    body: bytes


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Attempt).decode


def stored(attempt: Attempt) -> StoredAttempt:
    certificate = attempt.certificate
    return StoredAttempt(
        attempt.at,
        attempt.charge_point_id,
        attempt.address,
        "" if certificate is None else certificate.fingerprint,
        "" if certificate is None else certificate.common_name,
        attempt.outcome != ADMITTED,
        _encode(attempt),
    )


def shown(kept: StoredAttempt) -> dict[str, Any]:
    """JSON-ready, as `/v1/attempts` shows it: times as text, the ClientHello read, the remedy looked up."""
    attempt = _decode(kept.body)
    document: dict[str, Any] = msgspec.to_builtins(attempt)
    document["at"] = rfc3339(attempt.at).decode()
    reason = BY_CODE.get(attempt.outcome)
    if reason is not None:
        document["remedy"] = reason.remedy
    document.pop("hello", None)
    hello = read_hello(attempt.hello)
    if hello is not None:
        document["offeredVersions"] = list(hello.versions)
        document["offeredCiphers"] = list(hello.ciphers)
        document.setdefault("serverName", hello.server_name)
    if attempt.certificate is not None:
        document["certificate"]["notAfter"] = rfc3339(attempt.certificate.not_after).decode()
    return document
