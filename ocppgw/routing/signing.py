"""The local CA's side of SignCertificate (A02, A03; 1.6 security extension).

    judge (before the answer) -> Accepted -> request (after it) -> signed in a thread -> CertificateSigned as a command

One request of a station is under way at a time, from its promise to the end of its CertificateSigned, and a bounded
number in all; what comes beyond that is answered Rejected. A CA that failed is not promised again for a while.

Who is asked for a name: the CA signs for the names that are the station's own, its id, the CN of the certificate it
uses now, and the serial number it reported. That last is the station's mere word, so it is checked once more that no
other station is known by it.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.logger import Logger

from ocppgw.clock import Clock
from ocppgw.errors import OcppgwError
from ocppgw.metrics import Metrics
from ocppgw.ocpp.effects import SignRequest
from ocppgw.ocpp.serials import serial_numbers
from ocppgw.ports import CommandRecord, Known, Store
from ocppgw.routing.credentials import STATION_CERTIFICATE, InThread
from ocppgw.routing.links import Link, Links

log = Logger(namespace="ocppgw.signing")

PROMISE_SECONDS = 60.0  # from the answer Accepted to `request`; over when the event could not be stored
REST_SECONDS = 60.0  # for a CA that could not sign

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Issued(Protocol):
    """A signed certificate; `chain_pem`: it first, then the CAs above it."""

    @property
    def chain_pem(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def subject(self) -> str: ...


class Signer(Protocol):
    """The CA (ocppgw.pki.Signer). `own_fault` says why it can't sign at all, `check` why it does not sign a request, ""
    when it does; `sign` blocks."""

    def own_fault(self, now: float) -> str: ...
    def check(self, csr_pem: str, allowed_names: Collection[str]) -> str: ...
    def sign(self, csr_pem: str, now: float) -> Issued: ...


class Submitter(Protocol):
    """What is needed of ocppgw.routing.commands.Commands."""

    def submit(self, request: Mapping[str, Any]) -> "Deferred[CommandRecord]": ...
    def ended(self, command_id: str) -> "Deferred[CommandRecord | None]": ...


class NotSigned(OcppgwError):
    """A request that was promised is not signed after all."""

    code = "NotSigned"


class _Promise(msgspec.Struct):
    csr: str
    until: float  # seconds; for ever once it is being signed


class Signing:
    """`most`: how many requests may be under way at once."""

    def __init__(
        self,
        signer: Signer,
        commands: Submitter,
        links: Links,
        store: Store,
        metrics: Metrics,
        clock: Clock,
        in_thread: InThread,
        most: int = 100,
    ) -> None:
        self._signer = signer
        self._commands = commands
        self._links = links
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._in_thread = in_thread
        self._most = most
        self._promises: dict[str, _Promise] = {}
        self._fault = ""  # what the CA said when it last could not sign
        self._rests_until = 0.0

    def judge(self, charge_point_id: str, payload: Mapping[str, Any]) -> str:
        """See `ocppgw.ocpp.rules.SigningJudge`. The same request again is part of the same promise."""
        fault = self._refusal(charge_point_id, payload)
        if fault:
            self._metrics.note("certificate-request-refused")
            log.info("certificate request refused: {fault}", fault=fault, station=charge_point_id)
        return fault

    def request(self, link: Link, wanted: SignRequest) -> None:
        """Keep the promise: sign, and send the certificate. Never fails: what goes wrong is logged and counted."""
        name = link.station.charge_point_id
        promise = self._promises.setdefault(name, _Promise(wanted.csr, 0.0))
        if promise.until == math.inf:
            return  # asked for twice, signed once
        promise.until = math.inf

        def done(_result: Any) -> None:
            del self._promises[name]

        signed: Deferred[Any] = maybeDeferred(self._own_names, link)
        signed.addCallback(self._sign, wanted)
        signed.addCallback(self._send, name, wanted)
        signed.addErrback(self._not_signed, name).addBoth(done)

    # --- before the answer

    def _refusal(self, charge_point_id: str, payload: Mapping[str, Any]) -> str:
        wanted = payload.get("certificateType", STATION_CERTIFICATE)
        if wanted != STATION_CERTIFICATE:
            return f"the local CA signs no {wanted}"
        link = self._links.get(charge_point_id)
        if link is None:
            return "the station is not connected"
        now = self._clock.seconds()
        if now < self._rests_until:
            return f"the local CA can't sign: {self._fault}"
        return self._promise(charge_point_id, payload["csr"], link, now)

    def _promise(self, charge_point_id: str, csr: str, link: Link, now: float) -> str:
        promised = self._promises.get(charge_point_id)
        if promised is not None and promised.until > now:
            return "" if promised.csr == csr else "an earlier request of this station is still under way"
        fault = self._signer.own_fault(now) or self._signer.check(csr, _names(link))
        if fault:
            return fault
        self._promises = {name: kept for name, kept in self._promises.items() if kept.until > now}
        if len(self._promises) >= self._most:
            return "too many certificate requests are under way"
        self._promises[charge_point_id] = _Promise(csr, now + PROMISE_SECONDS)
        return ""

    # --- after it

    def _own_names(self, link: Link) -> "Deferred[list[str]]":
        """The names of `_names` that no other station is known by."""
        name = link.station.charge_point_id
        claimed = [serial for serial in _serials(link) if serial not in (name, _common_name(link))]

        def sift(found: list[Known]) -> list[str]:
            taken = {serial for serial, known in zip(claimed, found, strict=True) if known.identity is not None}
            return [one for one in _names(link) if one not in taken]

        looked_up = gatherResults([self._store.look_up(serial) for serial in claimed], consumeErrors=True)
        return looked_up.addCallbacks(sift, lambda failure: failure.value.subFailure)

    def _sign(self, names: list[str], wanted: SignRequest) -> "Deferred[Issued]":
        now = self._clock.seconds()

        def sign() -> Issued:
            fault = self._signer.check(wanted.csr, names)
            if fault:
                raise NotSigned(fault)
            return self._signer.sign(wanted.csr, now)

        def failed(failure: Any) -> Any:
            if failure.check(OcppgwError) is not None and failure.check(NotSigned) is None:
                self._fault = failure.getErrorMessage()
                self._rests_until = self._clock.seconds() + REST_SECONDS
            return failure

        return self._in_thread(sign).addErrback(failed)

    def _send(self, issued: Issued, charge_point_id: str, wanted: SignRequest) -> "Deferred[Any]":
        log.info(
            "signed a certificate for {subject}, fingerprint {fingerprint}",
            subject=issued.subject,
            fingerprint=issued.fingerprint,
            station=charge_point_id,
        )
        self._metrics.note("certificate-signed")
        payload: dict[str, Any] = {"certificateChain": issued.chain_pem}
        if wanted.certificate_type is not None:
            payload["certificateType"] = wanted.certificate_type
        if wanted.request_id is not None:
            payload["requestId"] = wanted.request_id
        request = {"commandType": "CertificateSigned", "chargePointId": charge_point_id, "payload": payload}
        return self._commands.submit(request).addCallback(lambda record: self._commands.ended(record.command_id))

    def _not_signed(self, failure: Any, charge_point_id: str) -> None:
        self._metrics.note("certificate-not-signed")
        if failure.check(OcppgwError) is None:
            log.failure("a fault of the gateway itself", failure=failure, station=charge_point_id)
        else:
            log.error("no certificate: {reason}", reason=failure.getErrorMessage(), station=charge_point_id)


def _names(link: Link) -> list[str]:
    """Every name the station says is its own."""
    own = (link.station.charge_point_id, _common_name(link), *_serials(link))
    return list(dict.fromkeys(name for name in own if name))


def _common_name(link: Link) -> str:
    certificate = link.proof.certificate
    return certificate.common_name if certificate is not None and link.proof.method == "mtls" else ""


def _serials(link: Link) -> list[str]:
    boot = link.session.state.boot
    return serial_numbers(_decode(boot)) if boot else []
