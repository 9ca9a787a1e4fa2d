"""Two gateways on one port (SO_REUSEPORT), as `ocppgw@.service` runs one for each core: what the second one costs.

Both run on the server core, with twice the stations: what is compared is the CPU for a message. Two workers with a core
each do twice what one does, but for what a message costs more; what they do not share can't hold them up.
"""

from pathlib import Path

from bench.launch import Gateway

NAME = "two workers"


class _Worker(Gateway):
    """`port`: the one that all of them share."""

    def __init__(self, core: int, log: Path, port: int) -> None:
        super().__init__(core, log)
        self._shared = port

    def _more_websocket(self) -> str:
        return "reuse_port = true\n"

    def _choose_port(self) -> int:
        return self._shared


class Workers(Gateway):
    """Used like one server; the first of them is this object."""

    name = NAME

    def __init__(self, core: int, log: Path) -> None:
        super().__init__(core, log)
        self._second: _Worker | None = None

    @property
    def pids(self) -> list[int]:
        assert self._second is not None
        return [self.pid, self._second.pid]

    def start(self) -> None:
        super().start()
        self._second = _Worker(self._core, self._log.with_suffix(".2.log"), self.port)
        self._second.start()
        self.about = "two processes on one port, each with a journal of its own"

    def stop(self) -> None:
        second, self._second = self._second, None
        if second is not None:
            second.stop()
        super().stop()

    def _more_websocket(self) -> str:
        return "reuse_port = true\n"
