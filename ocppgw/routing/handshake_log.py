"""What becomes of handshakes, told to everybody who wants to know: metrics, the log, the record of attempts."""

import msgspec
from twisted.logger import Logger

from ocppgw.access.attempts import ADMITTED, Attempt
from ocppgw.access.limits import LogCooldown
from ocppgw.access.refusals import Refused
from ocppgw.clock import Clock
from ocppgw.metrics import Metrics
from ocppgw.routing.attempt_log import AttemptLog

log = Logger(namespace="ocppgw.entrance")


class HandshakeLog:
    """One log line an address and reason in `cooldown` seconds, with a count of those left out."""

    def __init__(self, metrics: Metrics, attempts: AttemptLog, clock: Clock, cooldown: float) -> None:
        self._metrics = metrics
        self._attempts = attempts
        self._clock = clock
        self._cooldown = LogCooldown(cooldown)

    def admitted(self, attempt: Attempt, subprotocol: str) -> None:
        self._metrics.handshake("admitted")
        if attempt.tls_version:
            self._metrics.tls(attempt.tls_version, resumed=attempt.resumed)
        self._attempts.add(msgspec.structs.replace(attempt, outcome=ADMITTED, status=101, subprotocol=subprotocol))
        log.info(
            "connected with {subprotocol} from {address}",
            subprotocol=subprotocol or "no subprotocol",
            address=attempt.address,
            method=attempt.method,
            security_profile=attempt.security_profile,
            station=attempt.charge_point_id,
        )

    def refused(self, refused: Refused, attempt: Attempt) -> None:
        reason = refused.reason
        self._metrics.handshake(reason.code)
        self._attempts.add(
            msgspec.structs.replace(attempt, outcome=reason.code, status=refused.status, detail=refused.detail)
        )
        left_out = self._cooldown.left_out(f"{reason.code} {attempt.address}", self._clock.seconds())
        if left_out is None:
            self._metrics.log_left_out()
            return
        log.warn(
            "refused {address}: {what}; {remedy} ({left_out} like it not logged before)",
            address=attempt.address,
            what=_what(refused, attempt.url),
            code=reason.code,
            status=refused.status,
            detail=refused.detail,
            path=attempt.url,
            remedy=reason.remedy,
            left_out=left_out,
            station=attempt.charge_point_id or None,
        )

    def cut(self, refused: Refused, attempt: Attempt) -> None:
        """An open connection was closed because its station's rights changed."""
        self._metrics.note("access-withdrawn")
        attempt = msgspec.structs.replace(attempt, outcome=refused.reason.code, detail=refused.detail)
        self._attempts.add(attempt)
        log.warn(
            "closing {station}: {reason}: {detail}; {remedy}",
            station=attempt.charge_point_id,
            reason=refused.reason.code,
            detail=refused.detail,
            remedy=refused.reason.remedy,
        )


def _what(refused: Refused, url: str) -> str:
    code = refused.reason.code
    about = " ".join(filter(None, (refused.detail, url)))
    told = f"{refused.status} {refused.text} [{code}]" if refused.status else code
    return f"{told}: {about}" if about else told
