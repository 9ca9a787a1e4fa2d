"""The command line as tests run it: against the real Site over a fake gateway, on a socket, or against any answer.

with gateway_serving() as (url, gateway, requests):
    result = run(url, "list", "--json")
    gateway.store                                 the real embedded store, in memory, under the real Provisioning
"""

import base64
import json
import os
import socketserver
import sqlite3
import threading
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from ocppgw.access.authenticate import Authenticated, Hashing, prepare
from ocppgw.access.identity import parse_identity
from ocppgw.cli import main
from ocppgw.net.embedded.schema import lay_out
from tests.fake_gateway import build_web

MAX_TURNS = 1000
SCRYPT_N = 16
PASSWORD = "correct-horse-battery"


def _connection_for_any_thread():
    """The gateway is prepared in one thread and serves in another, never in both at once."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    lay_out(connection)
    return connection


@contextmanager
def serving(respond):
    """A TCP server on an ephemeral loopback port; `respond(request bytes) -> answer bytes` is called per connection.

    An answer is sent whole, then the connection is closed. Yields the URL.
    """

    class Handler(socketserver.StreamRequestHandler):
        timeout = 5

        def handle(self):
            head = b""
            length = 0
            while line := self.rfile.readline():
                head += line
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
                if line == b"\r\n":
                    break
            self.wfile.write(respond(head + self.rfile.read(length)))

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def gateway_serving(token=None, prepare=lambda gateway: None, then=lambda gateway, clock: None):
    """(url, gateway, requests): the real Site over a FakeGateway; `then` runs after each request was received."""
    web, gateway, clock = build_web(token)
    gateway.store.database.connection = _connection_for_any_thread()
    prepare(gateway)
    requests = []

    def respond(request):
        requests.append(request)
        connection = web.connect()
        connection.send(request)
        then(gateway, clock)
        for _ in range(MAX_TURNS):  # long jobs of the gateway give way to others in between
            if connection.transport.value():
                break
            clock.advance(0)
        return connection.transport.value()

    with serving(respond) as url:
        yield url, gateway, requests


def run(url, *arguments, stdin=None, environment=None):
    """Run `ocppgw` with OCPPGW_URL set to `url`, whatever the environment of the tests is; scrypt is a cheap one."""
    bare = {name: None for name in os.environ if name.startswith(("OCPP", "PROVISION_"))}
    given = {**bare, "OCPPGW_URL": url, "NO_COLOR": "1", "OCPP_AUTH_SCRYPT_N": str(SCRYPT_N), **(environment or {})}
    return CliRunner().invoke(main, arguments, input=stdin, env=given, catch_exceptions=False)


def identity(charge_point_id="CP-001", **auth):
    return {"chargePointId": charge_point_id, "stationId": "s1", "tenantId": "acme", "auth": auth}


class ProvisioningTestCase(SynchronousTestCase):
    def setUp(self):
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, content, name="identity.json"):
        """Its path; anything but bytes is written as JSON."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return str(path)

    def stored(self, gateway, charge_point_id="CP-001"):
        return self.successResultOf(gateway.store.look_up(charge_point_id)).identity

    def store(self, gateway, *documents):
        for document in documents:
            self.successResultOf(gateway.store.put_identity(document))

    def lets_in(self, record, secret, method="basic"):
        """Whether the gateway's own check takes this secret."""
        if method == "basic":
            octets = f"{record['chargePointId']}:".encode() + secret
            headers = {"authorization": "Basic " + base64.b64encode(octets).decode()}
        else:
            headers = {"authorization": "Bearer " + secret.decode()}
        check = prepare(parse_identity(record), "basic", headers, Hashing(n=SCRYPT_N))
        return isinstance(check.verify(), Authenticated)

    def provisioned(self, *arguments, document=None, **how):
        """What is stored after `ocppgw provision`, which must succeed."""
        with gateway_serving() as (url, gateway, _):
            given = [] if document is None else [self.file(document)]
            result = run(url, "provision", *given, *arguments, **how)
            self.assertEqual(result.exit_code, 0, result.output)
            return self.stored(gateway)

    def refused(self, *arguments, code=2, **how):
        """stderr of a command that fails before anything is sent."""
        with gateway_serving() as (url, _, requests):
            result = run(url, *arguments, **how)
        self.assertEqual((result.exit_code, result.stdout, requests), (code, "", []), result.output)
        return result.stderr
