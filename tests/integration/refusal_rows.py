"""What a row of the table of refusals is made of: a station, how it comes, and what becomes of it.

Each row is a station of its own with an address of its own, so that rows don't meet each other: what is counted, kept
and logged of its address is the row's.
"""

import itertools
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ocppgw.access.authenticate import hash_secret
from ocppgw.access.refusals import Reason
from tests.integration.knocking import Knock, Tls
from tests.integration.station import basic

PASSWORD = "correct horse: staple"
TOKEN = "a-token-of-some-length"
SALT = "pepper-and-salt"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

Auth = dict[str, Any]  # the `auth` of an identity
Overrides = Mapping[str, Any]  # members of a Knock

_numbers = itertools.count()


@dataclass(frozen=True)
class Row:
    """`outcome` None: it is let in. `identity` None: nobody knows it.

    `detail` is in what log and attempt say beside the reason; `alert` is the TLS alert that the gateway sends, or after
    "received: " the one it gets; `address` is whom the attempt is charged to; `is_cut`: it hears nothing, although its
    reason has an HTTP status. `before` are connections that came and went, `held` such as are open meanwhile.
    `is_valid`: else the identity could not be provisioned, but is stored all the same.
    """

    title: str
    outcome: Reason | None
    site: str
    id: str
    identity: Mapping[str, Any] | None
    knock: Knock
    address: str
    detail: str = ""
    alert: str = ""
    is_cut: bool = False
    is_valid: bool = True
    before: Sequence[Knock] = ()
    held: Sequence[Knock] = ()

    @property
    def code(self) -> str:
        return "Admitted" if self.outcome is None else self.outcome.code

    @property
    def status(self) -> int:
        """What the client hears."""
        if self.outcome is None:
            return 101
        return 0 if self.is_cut else self.outcome.status

    def __str__(self) -> str:
        return f"{self.code}: {self.title}"


_OF_ROW = ("address", "detail", "alert", "is_cut", "is_valid")


def row(
    title: str,
    outcome: Reason | None = None,
    *,
    site: str = "main",
    id: str = "",  # noqa: A002
    stored: Auth | None = None,
    members: Mapping[str, Any] | None = None,
    user: str = "",
    password: str | bytes | None = None,
    token: str = "",
    certificate: str = "",
    before: Sequence[Overrides] = (),
    held: Sequence[Overrides] = (),
    **more: Any,
) -> Row:
    """A station that is stored with `stored` as its `auth` and `members` beside it, and sends these credentials.

    `before` and `held` are the row's own knock with changes; `more` are members of Row or Knock. "{id}" in a path is
    the station's id.
    """
    number = next(_numbers)
    name = id or f"CP-{number:03}"
    more = {"source": f"127.0.{number // 200}.{number % 200 + 10}", "path": "/ocpp/1.6/{id}", **more}
    if certificate:
        more = {"port": "mtls", "tls": Tls(certificate), **more}
    of_row = {member: more.pop(member) for member in _OF_ROW if member in more}
    more["path"] = more["path"].replace("{id}", name)
    more["headers"] = {**_credentials(user or name, password, token), **more.get("headers", {})}
    knock = Knock(**more)
    return Row(
        title,
        outcome,
        site,
        name,
        _identity(name, stored, members),
        knock,
        before=[replace(knock, **changes) for changes in before],
        held=[replace(knock, **changes) for changes in held],
        **{"address": knock.source, **of_row},
    )


def _credentials(user: str, password: str | bytes | None, token: str) -> dict[str, str]:
    if token:
        return {"Authorization": f"Bearer {token}"}
    return {} if password is None else basic(user, password)


def _identity(name: str, stored: Auth | None, members: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if stored is None and members is None:
        return None
    auth = password_hash() if stored is None else stored
    return {"chargePointId": name, "stationId": f"at {name}", "tenantId": "tenant-1", "auth": auth, **(members or {})}


# --- what is stored of a station; `auth` are further members


def password_hash(secret: str | bytes = PASSWORD, algorithm: str = "sha256", **auth: Any) -> Auth:
    octets = secret.encode() if isinstance(secret, str) else secret
    digest = hash_secret(octets, SALT.encode(), algorithm).hex()
    return {"type": "basic", "secretHash": digest, "secretSalt": SALT, "hashAlgorithm": algorithm, **auth}


def token_hash(**auth: Any) -> Auth:
    digest = hash_secret(TOKEN.encode(), SALT.encode(), "sha256").hex()
    return {"type": "token", "tokenHash": digest, "secretSalt": SALT, **auth}


def mtls(*bindings: Mapping[str, Any], **auth: Any) -> Auth:
    return {"type": "mtls", "certificates": list(bindings), **auth}


def bound_to(*certificates: str) -> Auth:
    """By their fingerprints."""
    return mtls(*(fingerprint(name) for name in certificates))


def fingerprint(name: str, **members: Any) -> dict[str, Any]:
    """A binding; the name of a certificate of `refusal_sites` is replaced by its fingerprint there."""
    return {"fingerprint": f"fingerprint of {name}", **members}


KNOWN = {"stored": password_hash(), "password": PASSWORD}  # a station that would be let in
OVER_TLS = {"port": "tls", "tls": Tls()}
