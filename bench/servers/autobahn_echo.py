"""Bare Autobahn-Twisted in its ordinary use: accept the offered subprotocol, send every message back unchanged.

Started by bench.launch with AUTOBAHN_USE_NVX=1, so that Autobahn fails at once when its native code is missing.
"""

import json
from typing import Any

from twisted.internet import epollreactor

epollreactor.install()  # type: ignore[no-untyped-call]

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol  # noqa: E402
from autobahn.websocket import USES_NVX  # noqa: E402
from twisted.internet import reactor as installed_reactor  # noqa: E402

reactor: Any = installed_reactor


class Echo(WebSocketServerProtocol):  # type: ignore[misc]
    def onConnect(self, request: Any) -> str | None:  # noqa: N802 (Autobahn's name)
        return request.protocols[0] if request.protocols else None

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803 (Autobahn's names)
        self.sendMessage(payload, isBinary)


def main() -> None:
    factory = WebSocketServerFactory(protocols=["ocpp1.6", "ocpp2.0.1", "ocpp2.1"])
    factory.protocol = Echo
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    about = f"epoll reactor, NVX {'on' if USES_NVX else 'off'}"
    print(json.dumps({"port": port.getHost().port, "about": about}), flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
