"""`openssl s_client`: a TLS client that nobody here wrote, and that still speaks what Python no longer does."""

import subprocess
from dataclasses import dataclass

from cryptography import x509

from tests.integration.certificates import Pki
from tests.integration.harness import TIME_LIMIT, Gateway


@dataclass
class Outside:
    """What `openssl s_client` made of it: what came back after TLS (or the reason why it never got there)."""

    status: int
    output: str

    @property
    def certificate(self) -> x509.Certificate:
        """The gateway's."""
        return x509.load_pem_x509_certificate(self.output.encode())


def s_client(gateway: Gateway, pki: Pki, *arguments: str, sends: str = "") -> Outside:
    """Connect, send, and read until the answer's head has come."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.websocket_port}", "-servername", "localhost"]
    trust = ["-CAfile", str(pki.files.root), "-verify_hostname", "localhost", "-verify_return_error", "-ign_eof"]
    process = subprocess.Popen(
        [*command, *trust, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        output = ""
        try:
            process.stdin.write(sends.replace("\n", "\r\n"))
            process.stdin.flush()
            for line in process.stdout:
                output += line
                if output.endswith("\n\n") and "HTTP/1.1" in output:
                    break
            else:
                process.wait(TIME_LIMIT)
        finally:
            process.kill()
    return Outside(process.returncode, output)
