"""What a connected station proved itself with, kept as long as it is connected: whatever takes that away ends the
connection (a certificate revoked, a secret replaced, an identity disabled)."""

from dataclasses import dataclass, field

from ocppgw.access.certificates import ClientCertificate


@dataclass(frozen=True, slots=True)
class Proof:
    """`method` is basic, token, mtls or none; `certificate` the client certificate of its TLS connection, None where
    there is none; `digest` the stored hash that its secret matched (b"" without one), which no repr shows;
    `security_profile` is 0 to 3; `address` the station's own, also behind a listed proxy."""

    method: str
    certificate: ClientCertificate | None = None
    digest: bytes = field(default=b"", repr=False)
    security_profile: int = 0
    address: str = ""
