"""The load of the TLS rows: stations that speak TLS with a certificate of their own, and resume sessions.

A handshake counts when the server has said goodbye in TLS, too: in TLS 1.3 a client is done before the server has
looked at its certificate, and a refusal comes after that.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.certificates import SERVER_NAME
from bench.load import Load, LoadError, Script, Station
from bench.payloads import ROWS, Row

TLS_1_2, TLS_1_3 = "TLS 1.2", "TLS 1.3"
VERSIONS = {TLS_1_2: ssl.TLSVersion.TLSv1_2, TLS_1_3: ssl.TLSVersion.TLSv1_3}


def client_context(root: Path, version: str) -> ssl.SSLContext:
    """As a station has it: this version only, the server's certificate and name checked."""
    context = ssl.create_default_context(cafile=str(root))
    context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


class Client:
    """A station's side of TLS: its certificate and the session it may resume."""

    def __init__(self, station_id: str, credentials: Path, root: Path, version: str) -> None:
        self.id = station_id
        self.session: ssl.SSLSession | None = None
        self._context = client_context(root, version)
        self._context.load_cert_chain(credentials)

    def wrap(self, sock: Any, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """Nothing is sent before `do_handshake`."""
        return self._context.wrap_socket(
            sock, server_hostname=SERVER_NAME, do_handshake_on_connect=False, session=session
        )


class TlsStation(Station):
    """A station over TLS; `resumes` says what its handshake must be."""

    sock: ssl.SSLSocket

    def __init__(self, load: Load, client: Client, row: Row = ROWS[0], *, resumes: bool = False) -> None:
        super().__init__(load, row, client.id)
        self._client = client
        self._resumes = resumes

    def connect(self) -> Script:
        """Connect and shake hands; LoadError unless it was a full or a resumed handshake, as wanted."""
        yield from super().connect()
        self.sock = self._client.wrap(self.sock, self._client.session if self._resumes else None)
        yield from self._until(self.sock.do_handshake)
        if self.sock.session_reused is not self._resumes:
            raise LoadError(f"{self.id}: the TLS session was {'' if self.sock.session_reused else 'not '}resumed")

    def hang_up(self) -> Script:
        """Say goodbye in TLS and wait for the server's."""
        yield from self._until(self.sock.unwrap)
        self.load.detach(self)
        self.sock.close()

    def shake(self) -> Script:
        """One handshake, and nothing more."""
        yield from self.connect()
        yield from self.hang_up()

    def ask(self) -> Script:
        """A handshake, and a question: the answer is left in `inbox`."""
        yield from self.connect()
        self._write(b"?\n")
        while not self.inbox.endswith(b"\n"):
            yield
            self._read()
        yield from self.hang_up()

    def learn(self) -> Script:
        """A full handshake, to have a session to resume."""
        yield from self.connect()
        while not self._has_ticket():
            yield
            self._read()
        self._client.session = self.sock.session
        yield from self.hang_up()

    def _has_ticket(self) -> bool:
        """TLS 1.3 sends it after the handshake."""
        session = self.sock.session
        return session is not None and session.has_ticket

    def _until(self, step: Callable[[], Any]) -> Script:
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                yield
            except OSError as error:
                raise LoadError(f"{self.id}: {error}") from error
            else:
                return

    def _read(self) -> None:
        """All records that are there; none may be, when what came was no application data."""
        while True:
            try:
                data = self.sock.recv(65536)
            except ssl.SSLWantReadError:
                return
            except OSError as error:
                raise LoadError(f"{self.id}: {error}") from error
            self._accept(data)

    def _ended(self) -> bool:
        try:
            return super()._ended()
        except ssl.SSLWantReadError:
            return False
