"""Connections to a gateway as data: how a client comes, what it says, and what it hears.

    Knock(path="/ocpp/1.6/CP-1", headers=basic("CP-1", "secret"))         an upgrade request on the plain port
    Knock(port="mtls", tls=Tls("CP-1"))                                   with this client certificate
    Knock(raw=b"hello")                                                   other bytes in place of the request

`Caller(knock, …).call()` carries it out and gives the Answer; `leave` returns when the gateway has let go of it.
"""

import base64
import os
import socket
import ssl
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.integration.daemon import TIME_LIMIT

CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"  # RFC 6455: a close frame with code 1000, its mask all zeros
ANY_CIPHER = "ALL:@SECLEVEL=0"  # also keys and versions that OpenSSL would not use by itself


@dataclass(frozen=True)
class Tls:
    """A TLS client. `certificate` is the name of its own, "" for none; `version` the only one it speaks; `ciphers`
    those of TLS 1.2; `trusts` whether it knows the gateway's CA; `resumes` whether it comes with the session of a
    handshake that it made before."""

    certificate: str = ""
    version: ssl.TLSVersion | None = None
    ciphers: str = ""
    trusts: bool = True
    resumes: bool = False

    def context(self, certificates: Path) -> ssl.SSLContext:
        """`certificates` is the folder with `{certificate}.pem` and the gateway's `server-ca.pem`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.trusts:
            context.load_verify_locations(certificates / "server-ca.pem")
        if self.ciphers:
            context.set_ciphers(self.ciphers)
        if self.version is not None:
            with warnings.catch_warnings(action="ignore"):  # old versions are deprecated
                context.minimum_version = context.maximum_version = self.version
        if self.certificate:
            context.load_cert_chain(certificates / f"{self.certificate}.pem")
        return context


@dataclass(frozen=True)
class Knock:
    """One connection: to a `port` of the gateway by name, from `source`; `preface` goes before everything else.

    `offers` is the value of Sec-WebSocket-Protocol, None for no such header; `header_lines` replaces the ones that make
    it an upgrade. `raw` is sent instead of the request, `hangs_up` says that the client is the one that ends it, and
    `before_request` is done when TLS stands and the request is not yet sent.
    """

    path: str = "/ocpp/1.6/CP-1"
    offers: str | None = "ocpp1.6"
    headers: Mapping[str, str] = field(default_factory=dict)
    port: str = "plain"
    source: str = "127.0.0.1"
    preface: bytes = b""
    tls: Tls | None = None
    raw: bytes | None = None
    upgrade: Mapping[str, str] = field(
        default_factory=lambda: {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    )
    method: str = "GET"
    version: str = "HTTP/1.1"
    hangs_up: bool = False
    before_request: str = ""

    @property
    def is_silent(self) -> bool:
        return self.raw == b""

    @property
    def request(self) -> bytes:
        if self.raw is not None:
            return self.raw
        lines = [f"{self.method} {self.path} {self.version}", "Host: gateway"]
        lines += [f"{name}: {value}" for name, value in self.upgrade.items()]
        if "Upgrade" in self.upgrade:
            lines.append(f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}")
        if self.offers is not None:
            lines.append(f"Sec-WebSocket-Protocol: {self.offers}")
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(frozen=True)
class Answer:
    """`status` 0: the connection ended without HTTP; `alert` OpenSSL's name for the TLS alert that was heard."""

    status: int = 0
    phrase: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    alert: str = ""


class Caller:
    """`ports` are the gateway's by name; `deeds` what `before_request` may name."""

    def __init__(
        self,
        knock: Knock,
        ports: Mapping[str, int],
        certificates: Path,
        deeds: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        self._knock = knock
        self._address = ("127.0.0.1", ports[knock.port])
        self._certificates = certificates
        self._deeds = deeds or {}
        self._peer = socket.socket()

    def connect(self) -> Self:
        self._peer = self._connected()
        return self

    def _connected(self) -> socket.socket:
        peer = socket.create_connection(self._address, TIME_LIMIT, (self._knock.source, 0))
        if self._knock.preface:
            peer.sendall(self._knock.preface)
        return peer

    def call(self) -> Answer:
        """Connect, say all that is to be said, and hear the answer. ConnectionRefusedError where nobody listens."""
        try:
            return self.connect().ask()
        except ConnectionResetError:
            return Answer()

    def ask(self) -> Answer:
        """`call` for who is connected."""
        knock = self._knock
        try:
            if knock.tls is not None:
                self._peer = self._secured(knock.tls)
            if knock.before_request:
                self._deeds[knock.before_request]()
            self._peer.sendall(knock.request)
            if knock.hangs_up:
                self.vanish()
                return Answer()
            return self._answer()
        except ssl.SSLEOFError:
            return Answer()
        except ssl.SSLError as error:
            return Answer(alert=error.reason or "")
        except ConnectionError:
            return Answer()

    def _secured(self, tls: Tls) -> ssl.SSLSocket:
        context = tls.context(self._certificates)
        session = None
        if tls.resumes:
            with context.wrap_socket(self._connected(), server_hostname="localhost") as earlier:
                session = earlier.session
        return context.wrap_socket(self._peer, server_hostname="localhost", session=session)

    def _answer(self) -> Answer:
        data = b""
        while b"\r\n\r\n" not in data and (more := self._peer.recv(1)):  # what follows a 101 is the WebSocket's
            data += more
        if not data.startswith(b"HTTP/"):
            return Answer()
        head, _, _ = data.decode("latin-1").partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        _, status, phrase = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = "" if status == "101" else self._rest().decode("latin-1")
        return Answer(int(status), phrase, headers, body)

    def _rest(self) -> bytes:
        data = b""
        while more := self._peer.recv(4096):
            data += more
        return data

    def leave(self) -> None:
        """Close the WebSocket and wait until the gateway has closed the connection."""
        if not self._knock.is_silent:
            with suppress(OSError):  # it has done so before
                self._peer.sendall(CLOSE)
                self._rest()
        self.vanish()

    def vanish(self) -> None:
        self._peer.close()


def client_hello(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> bytes:
    """The first bytes of a TLS client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()
