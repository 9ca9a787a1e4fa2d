"""The gateways that stations are refused by, with certificates good and bad, and the stations that they know.

main       plain; request, mtls and tls ports (a client certificate is welcome, required, not asked for); CRLs
proxied    behind a listed reverse proxy, which is 127.0.0.1; security profile 2 at least
balanced   behind a listed load balancer that speaks the PROXY protocol; little time for a handshake
narrow     with tight limits; a certificate's subject may stand in for a binding
"""

import contextlib
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from ocppgw.access.certificates import serial_text
from ocppgw.net.embedded import schema
from ocppgw.pki import Credentials
from ocppgw.pki.issuing import STATION, issue
from ocppgw.pki.issuing import name as subject_of
from tests.integration.certificates import free_port
from tests.integration.harness import Gateway
from tests.integration.knocking import Caller, Knock
from tests.make_certificates import DAY, Made, crl_pem, key, make_ca, make_crl, make_server, make_station, write

BRIEF_SECONDS = 2.0  # how long the certificate is valid that runs out between handshake and request

SETTINGS: dict[str, dict[str, Any]] = {
    "main": {
        "admission": {"allowed_cidrs": ["127.0.0.0/16", "127.9.0.2/32"], "swaps_per_minute": 1},
        "tls": {"crl_check": "chain", "client_organizations": ["Operator", "Partner"]},
    },
    "proxied": {
        "admission": {
            "trusted_proxies": ["127.0.0.1"],
            "proxy_header": "x-forwarded-for",
            "allowed_cidrs": ["198.51.100.0/24", "2001:db8::/32"],
            "min_security_profile": 2,
        },
    },
    "balanced": {
        "websocket": {"proxy_protocol": True, "handshake_timeout_seconds": 2.0},
        "admission": {"trusted_proxies": ["127.0.0.1", "198.51.100.200"], "proxy_header": "forwarded"},
    },
    "narrow": {
        "websocket": {"max_connections": 4, "max_half_open": 4},
        "admission": {
            "max_connections_per_address": 3,
            "max_half_open_per_address": 2,
            "handshakes_per_minute_per_address": 5,
            "refusals_per_minute_per_address": 3,
        },
        "stations": {"require_cert_binding": False},
    },
}
PORTS: dict[str, dict[str, str]] = {
    "main": {"request": "mtls-optional", "mtls": "mtls", "tls": "tls"},
    "proxied": {},
    "balanced": {"mtls": "mtls"},
    "narrow": {"request": "mtls-optional", "tls": "tls"},
}


class Certificates:
    """All that is needed of certificates, in one folder: `{name}.pem` of each station, the gateway's, CAs and CRLs.

    Four CAs below one root sign stations' certificates: one in good order, one with an old CRL, one without a CRL, one
    that the root has revoked.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._now = time.time()
        folder.mkdir()
        self._root = self._ca("Root CA", kind="rsa")
        self._good = self._ca("Operator CA", self._root)
        self._late = self._ca("Late CA", self._root)
        self._silent = self._ca("Silent CA", self._root)
        self._fallen = self._ca("Fallen CA", self._root)
        authorities = (self._root, self._good, self._late, self._silent, self._fallen)
        self._write("client-ca", b"".join(one.certificate.public_bytes(Encoding.PEM) for one in authorities))
        self.made = self._stations()
        for name, made in self.made.items():
            self._write(name, made.pem)
        self._write("unreadable", self.made["ec"].key_pem + _of_version_5(self.made["ec"]))
        self._make_server()
        self.put_crls()

    def _ca(self, name: str, issuer: Made | None = None, kind: str = "ec") -> Made:
        return make_ca(name, issuer, kind=kind, now=self._now)

    def _station(self, name: str, issuer: Made | None = None, **more: Any) -> Made:
        return make_station(issuer or self._good, name, now=self._now, label="a station", **more)

    def _stations(self) -> dict[str, Made]:
        now = self._now
        return {
            "rsa": self._station("RSA-2048", kind="rsa"),
            "ec": self._station("P-256"),
            "named": self._named("NAMED", "cp-named.example"),
            "partner's": self._station("PARTNER", organization="Partner"),
            "stranger's": self._station("STRANGER", organization="Stranger"),
            "listed": self._station("LISTED"),
            "brief": self._station("BRIEF"),  # made anew when it is used
            "expired": self._station("EXPIRED", days=-1, begins=now - 10 * DAY),
            "early": self._station("EARLY", begins=now + DAY),
            "revoked": self._station("REVOKED"),
            "fallen": self._station("FALLEN", self._fallen),
            "silent": self._station("SILENT", self._silent),
            "late": self._station("LATE", self._late),
            "foreign": self._station("FOREIGN", self._ca("Foreign CA")),
            "self-signed": make_station(None, "SELF-SIGNED", now=now),
            "server's": self._station("SERVER", usage=ExtendedKeyUsageOID.SERVER_AUTH),
            "weak": make_station(self._good, "WEAK", kind="rsa1024", now=now),
        }

    def _named(self, common_name: str, dns_name: str) -> Made:
        own, above = key("ec", "a station"), self._good
        issuer = Credentials(above.certificate, above.key)
        names, subject = [x509.DNSName(dns_name)], subject_of(common_name, "Operator")
        number = x509.random_serial_number()
        made = issue(issuer, STATION, subject, own.public_key(), self._now, days=30, serial_number=number, names=names)
        return Made(made, own, (above.certificate,))

    def _make_server(self) -> None:
        authority = self._ca("Server CA", kind="rsa")
        self._write("server-ca", authority.chain_pem)
        for kind in ("rsa", "ec"):
            self._write(f"server-{kind}", make_server(authority, "localhost", kind=kind, now=self._now).pem)

    def put_crls(self, *more_revoked: str, of_operator: bool = True, days: float = 7) -> None:
        """`days` of the operator's: negative ones make it out of date."""
        revoked = [self.made[name] for name in ("revoked", *more_revoked)]
        crls = [make_crl(self._root, [self._fallen], now=self._now), make_crl(self._late, now=self._now, days=-1)]
        crls.append(make_crl(self._fallen, now=self._now))
        if of_operator:
            crls.append(make_crl(self._good, revoked, now=self._now, days=days))
        self._write("crls", crl_pem(*crls))

    def make_brief(self) -> None:
        """Valid for a moment from now on."""
        now = time.time()
        made = make_station(self._good, "BRIEF", now=now, days=BRIEF_SECONDS / DAY, label="a station")
        self.made["brief"] = made
        self._write("brief", made.pem)

    def path(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")

    def _write(self, name: str, data: bytes) -> None:
        write(self.folder / f"{name}.pem", data)

    def filled_in(self, record: Any) -> Any:
        """An identity whose texts such as "fingerprint of rsa" are replaced by what they say."""
        if isinstance(record, Mapping):
            return {name: self.filled_in(value) for name, value in record.items()}
        if isinstance(record, list):
            return [self.filled_in(value) for value in record]
        kind, of, name = record.partition(" of ") if isinstance(record, str) else ("", "", "")
        if not of or name not in self.made:
            return record
        made = self.made[name]
        return {"fingerprint": made.fingerprint, "serial number": serial_text(made.certificate.serial_number)}[kind]


class Site(Gateway):
    """One of the gateways, with its ports by name."""

    def __init__(
        self, name: str, folder: Path, certificates: Certificates, stored: Sequence[Mapping[str, Any]]
    ) -> None:
        self.name = name
        self.certificates = certificates
        self._more = {port: free_port() for port in PORTS[name]}
        super().__init__(folder, self._settings(name), identities=[certificates.filled_in(one) for one in stored])
        self._crls_changed = False
        self.deeds: dict[str, Callable[[], None]] = {
            "it runs out": self._let_brief_end,
            "a CRL revokes it": lambda: self._take_crls("ec"),
            "the CRL gets old": lambda: self._take_crls(days=-1),
            "the CRL is gone": lambda: self._take_crls(of_operator=False),
        }

    def _settings(self, name: str) -> dict[str, Any]:
        own, path = SETTINGS[name], self.certificates.path
        settings = {
            **own,
            "admission": {"flood_log_cooldown_seconds": 0, **own["admission"]},
            "stations": {"unknown": "refuse", **own.get("stations", {})},
        }
        if PORTS[name]:
            ports = {str(self._more[port]): kind for port, kind in PORTS[name].items()}
            settings["websocket"] = {**own.get("websocket", {}), "more_ports": ports}
            settings["tls"] = {
                "cert_path": [path("server-rsa"), path("server-ec")],
                "ca_path": [path("client-ca")],
                "crl_path": [path("crls")],
                **own.get("tls", {}),
            }
        return settings

    @property
    def ports(self) -> dict[str, int]:
        return {"plain": self.websocket_port, **self._more}

    def caller(self, knock: Knock) -> Caller:
        if knock.tls is not None and knock.tls.certificate == "brief":
            self.certificates.make_brief()
        return Caller(knock, self.ports, self.certificates.folder, self.deeds)

    def store_unchecked(self, identity: Mapping[str, Any]) -> None:
        """An identity as another tool may have left it, in the store before the gateway starts."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        row = (identity["chargePointId"], json.dumps(self.certificates.filled_in(identity)).encode())
        with contextlib.closing(schema.connect(self.state_dir)) as connection:
            connection.execute("INSERT INTO identities VALUES (?, ?)", row)

    # --- what happens between TLS and the request

    def restore(self) -> None:
        """Undo what happened."""
        if self._crls_changed:
            self._take_crls()
            self._crls_changed = False

    def _take_crls(self, *revoked: str, **how: Any) -> None:
        self._crls_changed = True
        self.certificates.put_crls(*revoked, **how)
        self.hang_up()

    def _let_brief_end(self) -> None:
        ends = self.certificates.made["brief"].certificate.not_valid_after_utc.timestamp()
        while time.time() <= ends:
            time.sleep(0.02)


def _of_version_5(made: Made) -> bytes:
    """A certificate of X.509 version 5, in PEM, which OpenSSL takes and the library that reads it does not."""
    der = made.certificate.public_bytes(Encoding.DER)
    changed = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1)
    return ssl.DER_cert_to_PEM_cert(changed).encode()
