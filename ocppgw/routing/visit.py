"""One TCP connection at the entrance, from accept until it is let in or gone: what `ocppgw explain` tells of it.

visit = entrance.visit(peer, listener)          accepted
visit.decide(facts, headers)                    an upgrade request: Welcome or Refused, logged, counted and kept
visit.refuse(reason)                            refused for something that is no upgrade request
visit.gone(tls_failure)                         the connection ended before it was let in
visit.left()                                    the connection ended, let in or not
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from ocppgw.access import attempts
from ocppgw.access.admission import HandshakeFacts
from ocppgw.access.attempts import Attempt
from ocppgw.access.certificates import ClientCertificate
from ocppgw.access.proxies import Origin
from ocppgw.access.refusals import Reason, Refused
from ocppgw.access.transport import TlsFacts, TlsFailure

if TYPE_CHECKING:
    from ocppgw.routing.entrance import Entrance, Welcome


class Visit:
    """`peer` is the TCP peer's address; `address` the station's own, once a listed proxy has named it."""

    __slots__ = (
        "_counted",
        "_entrance",
        "_half_open",
        "address",
        "is_decided",
        "is_refused",
        "listener",
        "peer",
        "proxy",
        "started",
    )

    def __init__(self, entrance: "Entrance", peer: str, listener: str, now: float, *, counted: bool) -> None:
        self._entrance = entrance
        self._counted = peer if counted else ""
        self._half_open = counted
        self.peer = peer
        self.address = peer
        self.proxy = ""
        self.listener = listener
        self.started = now
        self.is_decided = False
        self.is_refused = False

    def decide(self, facts: HandshakeFacts, headers: Mapping[str, str]) -> "Deferred[Welcome | Refused]":
        """`facts.peer_ip` is the TCP peer's, or the one the PROXY protocol named; `headers`: lower-case names. Never
        fails: a fault of the store is a refusal, too."""
        self.is_decided = True
        return self._entrance.decide(self, facts, headers)

    def came_from(self, origin: Origin) -> Reason | None:
        """A proxy named the station's address: from here on it is the one that is counted."""
        self.proxy = origin.proxy or (self.peer if origin.address != self.peer else "")
        self.address = origin.address
        if self._counted == origin.address or not self.proxy:
            return None
        self.left()
        reason = self._entrance.turnstile.arrive(origin.address, self._entrance.now())
        if reason is None:
            self._counted, self._half_open = origin.address, True
        return reason

    def refuse(self, reason: Reason, detail: str = "", url: str = "", *, is_cut: bool = False) -> Refused:
        """`is_cut`: it is not told why."""
        self.is_decided = self.is_refused = True
        refused = Refused(reason, detail, is_cut=is_cut)
        self._entrance.report(self, refused, Attempt(**self._about(), url=shown_url(url)))
        return refused

    def gone(self, failure: TlsFailure | None) -> None:
        """The connection ended undecided; without a TLS failure there is nothing to tell (a load balancer's probe)."""
        if failure is None or self.is_decided or (failure.is_silent and failure.kind != Reason.TLS_TIMEOUT.code):
            return
        self.is_decided = True
        certificate = failure.certificate
        attempt = Attempt(
            **self._about(),
            tls_version=failure.version,
            server_name=failure.server_name,
            alert=failure.alert,
            hello=failure.hello,
            certificate=None if certificate is None else about_certificate(certificate, ""),
        )
        self._entrance.report(self, Refused(BY_KIND.get(failure.kind, Reason.TLS_FAILED), failure.detail), attempt)

    def upgraded(self) -> None:
        if self._counted and self._half_open:
            self._half_open = False
            self._entrance.turnstile.upgraded(self._counted)

    def left(self) -> None:
        """Safe to call twice."""
        if self._counted:
            counted, self._counted = self._counted, ""
            self._entrance.turnstile.leave(counted, half_open=self._half_open)

    def attempt(self, facts: HandshakeFacts, charge_point_id: str) -> Attempt:
        """What is known of an upgrade request."""
        offers = tuple(offer[: attempts.MAX_SUBPROTOCOL] for offer in facts.subprotocols[: attempts.MAX_SUBPROTOCOLS])
        return Attempt(
            **self._about(),
            charge_point_id=charge_point_id,
            url=shown_url(facts.raw_path),
            subprotocols=offers,
            **_tls_members(facts.tls),
        )

    def _about(self) -> dict[str, Any]:
        return {
            "at": self._entrance.now(),
            "outcome": "",
            "address": self.address,
            "proxy": self.proxy or (self.peer if self.address != self.peer else ""),
            "listener": self.listener,
        }


BY_KIND = {reason.code: reason for reason in Reason if reason.code.startswith("Tls")}


def shown_url(target: str) -> str:
    """A request target as it may be logged and kept: the query, which may hold a token, is left out."""
    path, query, _ = target.partition("?")
    return path[: attempts.MAX_URL] + ("?…" if query else "")


def about_certificate(certificate: ClientCertificate, binding: str) -> attempts.Certificate:
    return attempts.Certificate(
        subject=certificate.subject[:200],
        fingerprint=certificate.fingerprint,
        common_name=certificate.common_name[:64],
        serial_number=certificate.serial_number,
        issuer=certificate.issuer[:200],
        not_after=certificate.not_after,
        binding=binding,
    )


def _tls_members(tls: TlsFacts | None) -> dict[str, Any]:
    if tls is None:
        return {}
    return {
        "tls_version": tls.version,
        "cipher": tls.cipher,
        "server_name": tls.server_name,
        "resumed": tls.resumed,
        "hello": tls.hello,
        "certificate": None if tls.certificate is None else about_certificate(tls.certificate, ""),
    }


__all__ = ["Visit", "about_certificate", "shown_url"]
