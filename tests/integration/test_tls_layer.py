"""TLS on real sockets, seen by OpenSSL's own command line: an outside client that shares no code with the gateway's."""

import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build_tls import Pki
from tests.make_certificates import make_server, make_station

TIME_LIMIT = 15.0

SERVER = """
import sys, time
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.protocols.basic import LineOnlyReceiver
from ocppgw.net.tls import TlsCreator, TlsFactory, TlsFiles, TlsReloader

folder = Path(sys.argv[1])


class Echo(LineOnlyReceiver):
    delimiter = b"\\n"
    seen = False

    def lineReceived(self, line):
        if not self.seen:
            self.seen = True
            facts = self.transport.tls_facts()
            who = facts.certificate.common_name if facts.certificate else "nobody"
            print("facts", facts.version, facts.cipher, facts.server_name, facts.resumed, who, flush=True)
            self.transport.tls_slim()
        if line == b"reload":
            reloader.reload("test").addCallback(lambda outcome: self.sendLine(outcome.encode()))
        elif line == b"bye":
            self.transport.loseConnection()
        else:
            self.sendLine(b"echo " + line)

    def connectionLost(self, reason):
        failure = self.transport.tls_failure()
        if failure:
            print("lost", failure.kind, failure.alert, flush=True)


paths = tuple(folder / name for name in ("rsa.pem", "ec.pem"))
files = TlsFiles(
    cert_paths=paths,
    sni={"ocpp.example.com": (folder / "sni.pem",)},
    ca_paths=(folder / "ca.pem",),
    crl_paths=(folder / "crl.pem",),
    crl_check="chain",
)
creator = TlsCreator(("require",), time.time)
reloader = TlsReloader(files, creator, deferToThread, time.time, print, lambda crls: None)
reloader.load_first()
port = reactor.listenTCP(
    0, TlsFactory(creator, "require", Factory.forProtocol(Echo), reactor), interface="127.0.0.1"
)
print("port", port.getHost().port, flush=True)
reactor.run()
"""


class Server:
    """The listener in a process of its own; `lines` are what it said of its connections."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.port = int(self.line("port").split()[1])

    def line(self, first: str) -> str:
        """The next line of output that begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(first):
                return line.strip()
            assert "Traceback" not in line, line
        raise AssertionError(f"the server ended before a line began with {first}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=TIME_LIMIT)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    pki = Pki(tmp_path)
    pki.write("sni.pem", make_server(pki.issuing, "ocpp.example.com", now=pki.now).pem)
    pki.write("cp.pem", make_station(pki.issuing, "CP-001", now=pki.now).pem)
    pki.write_crls()
    return pki


@pytest.fixture
def server(pki: Pki) -> Iterator[Server]:
    server = Server(pki.folder)
    yield server
    server.stop()


def command(server: Server, pki: Pki, *options: str) -> list[str]:
    connect = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", str(pki.folder / "ca.pem")]
    return [*connect, "-cert", str(pki.folder / "cp.pem"), "-cert_chain", str(pki.folder / "cp.pem"), *options]


def s_client(server: Server, pki: Pki, *options: str) -> str:
    """What openssl s_client prints: it greets, and stays until the server has closed or refused it."""
    run = subprocess.run(
        command(server, pki, "-ign_eof", *options),
        input="hello\nbye\n",
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )
    return run.stdout + run.stderr


class Talk:
    """An s_client that stays connected."""

    def __init__(self, server: Server, pki: Pki, *options: str) -> None:
        self.process = subprocess.Popen(
            command(server, pki, "-quiet", *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, line: bytes) -> bytes:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(line + b"\n")
        stdin.flush()
        ready, _, _ = select.select([stdout], [], [], TIME_LIMIT)
        assert ready, "no answer in time"
        return stdout.readline().strip()

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize(
    ("suite", "issuer"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", "Other issuing"),
        ("ECDHE-ECDSA-AES256-GCM-SHA384", "Other issuing"),
        ("AES128-GCM-SHA256", "Issuing"),
        ("AES256-GCM-SHA384", "Issuing"),
    ],
)
def test_each_suite_of_ocpp_alone(server: Server, pki: Pki, suite: str, issuer: str) -> None:
    output = s_client(server, pki, "-tls1_2", "-cipher", suite, "-servername", "localhost", "-showcerts")
    assert f"Cipher is {suite}" in output
    assert "Verify return code: 0 (ok)" in output
    assert server.line("facts") == f"facts TLSv1.2 {suite} localhost False CP-001"
    subjects = re.findall(r"^ *\d+ s:(.*)$", output, re.MULTILINE)
    assert [_name(subject) for subject in subjects] == ["localhost", issuer]  # the chain file, whole


@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
def test_tls_13(server: Server, pki: Pki, suite: str) -> None:
    output = s_client(server, pki, "-tls1_3", "-ciphersuites", suite)
    assert f"New, TLSv1.3, Cipher is {suite}" in output
    assert "echo hello" in output
    assert server.line("facts").split()[1:3] == ["TLSv1.3", suite]


def test_tls_11_is_refused(server: Server, pki: Pki) -> None:
    output = s_client(server, pki, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in output
    assert server.line("lost") == "lost TlsVersion sent: protocol_version"


def test_server_name_chooses_the_certificate(server: Server, pki: Pki) -> None:
    for name, expected in (("ocpp.example.com", "ocpp.example.com"), ("other.example.com", "localhost")):
        output = s_client(server, pki, "-servername", name)
        subject = re.search(r"^subject=(.*)$", output, re.MULTILINE)
        assert subject is not None
        assert _name(subject[1]) == expected
        assert server.line("facts").split()[3] == name


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_session_is_resumed_with_its_certificate_and_not_after_a_swap(server: Server, pki: Pki, version: str) -> None:
    session = str(pki.folder / "session.pem")
    assert "New, TLSv1" in s_client(server, pki, version, "-sess_out", session)
    assert server.line("facts").endswith("False CP-001")
    assert "Reused, TLSv1" in s_client(server, pki, version, "-sess_in", session)
    assert server.line("facts").endswith("True CP-001")
    pki.write_crls(make_station(pki.issuing, "CP-002", now=pki.now))
    with Talk(server, pki) as talk:
        assert talk.ask(b"reload") == b"swapped"
    server.line("facts")
    assert "New, TLSv1" in s_client(server, pki, version, "-sess_in", session)
    assert server.line("facts").endswith("False CP-001")


def test_renegotiation_is_refused(server: Server, pki: Pki) -> None:
    run = subprocess.run(
        command(server, pki, "-tls1_2"), input="R\n", capture_output=True, text=True, timeout=TIME_LIMIT, check=False
    )
    assert "RENEGOTIATING" in run.stdout + run.stderr
    assert "no renegotiation" in run.stdout + run.stderr


def test_station_that_is_refused_gets_the_alert_that_says_why(server: Server, pki: Pki) -> None:
    pki.write("stranger.pem", make_station(None, "CP-001", now=pki.now).pem)
    for version in ("-tls1_2", "-tls1_3"):
        output = s_client(server, pki, version, "-cert", str(pki.folder / "stranger.pem"))
        assert "alert unknown ca" in output
        assert server.line("lost") == "lost TlsCertificateUnknownCa sent: unknown_ca"


def test_live_connections_survive_a_swap_and_a_revoked_certificate_is_kept_out(server: Server, pki: Pki) -> None:
    revoked = make_station(pki.other_issuing, "CP-666", now=pki.now)
    pki.write("revoked.pem", revoked.pem)
    with Talk(server, pki) as live:
        assert live.ask(b"one") == b"echo one"
        assert "echo hello" in s_client(server, pki, "-cert", str(pki.folder / "revoked.pem"))
        pki.write_crls(revoked)
        assert live.ask(b"reload") == b"swapped"
        assert live.ask(b"reload") == b"unchanged"
        output = s_client(server, pki, "-cert", str(pki.folder / "revoked.pem"))
        assert "alert certificate revoked" in output
        assert live.ask(b"two") == b"echo two"
        pki.write("ec.pem", pki.ec.pem[:300])
        assert live.ask(b"reload").startswith(b"kept: ")
        assert live.ask(b"three") == b"echo three"


def test_plain_http_is_told_that_tls_is_required(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), TIME_LIMIT) as plain:
        plain.sendall(b"GET /ocpp/1.6/CP-001 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while part := plain.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 400 TLS required\r\n")
    assert server.line("lost") == "lost TlsPlainHttp"


def _name(subject: str) -> str:
    found = re.search(r"CN ?= ?([^,/]+)", subject)
    assert found is not None, subject
    return found[1].strip()
