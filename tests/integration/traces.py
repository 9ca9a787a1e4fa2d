"""Whether secrets leave traces: in the process list of the machine, or in any text."""

import secrets
import threading
from contextlib import suppress
from pathlib import Path


class ProcessList:
    """Every command line that showed up in the machine's process list while it watched."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "ProcessList":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):  # it ended in between
                    self.seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))


MARK = "S3cr3t-"  # how all secrets begin that are made here


class Secrets:
    """Makes secrets that can be told from everything else; `traces` are the texts that give one of them away."""

    def __init__(self) -> None:
        self.traces = [MARK, MARK.encode().hex()]

    def new(self) -> str:
        return f"{MARK}{secrets.token_hex(6)}"

    def remember(self, secret: str) -> str:
        """One that was made elsewhere."""
        self.traces += [secret, secret.encode().hex()]
        return secret
