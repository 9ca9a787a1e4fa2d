"""CALLs that the gateway answers itself: for every action a charger may send, the payload of the CALLRESULT.

Most answers are `{}`. The others supply a status that only the backend's side can give (protocol facts: OCPP 1.6
section 6, 2.x part 2 section 1); where nobody here can do what the charger asks (sign a certificate, check a VAT
number), the answer says so honestly (Rejected, Failed) and the request still becomes an event. Transactions are
answered in `ocppgw.ocpp.transactions`, because their answers depend on stored state.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ocppgw.ocpp.frames import dumps
from ocppgw.ocpp.timestamps import rfc3339
from ocppgw.ocpp.tokens import KnownToken, TokenBook
from ocppgw.ocpp.versions import V16, V21, V201, OcppVersion


class AnswerRules(msgspec.Struct, frozen=True):
    """What the local answers follow; times in seconds."""

    heartbeat_interval: int = 300
    boot_retry_interval: int = 60
    id_token_status: str = "Accepted"  # noqa: S105  of every token that id_tokens does not name
    id_tokens: Mapping[str, str] = {}
    tokens: TokenBook = TokenBook()  # known beside these; read from a file
    data_transfer_vendors: frozenset[str] = frozenset()
    sign_certificate: str = "Rejected"  # Accepted where the backend has requests signed: the event hands them to it

    def known_token(self, token: str, kind: str | None = None) -> KnownToken:
        """`kind`: the type the station says it is (2.x)."""
        status = self.id_tokens.get(token)
        if status is not None:
            return KnownToken(status)
        return self.tokens.find(token, kind) or KnownToken(self.id_token_status)


Answer = Callable[[AnswerRules, Mapping[str, Any], float], bytes]
EMPTY = b"{}"


def _fixed(payload: bytes) -> Answer:
    return lambda _rules, _payload, _now: payload


def _heartbeat(_rules: AnswerRules, _payload: Mapping[str, Any], now: float) -> bytes:
    return b'{"currentTime":"%b"}' % rfc3339(now)


def boot(rules: AnswerRules, status: str, now: float) -> bytes:
    interval = rules.heartbeat_interval if status == "Accepted" else rules.boot_retry_interval
    return b'{"status":"%b","currentTime":"%b","interval":%d}' % (status.encode(), rfc3339(now), interval)


def signing(fault: str) -> tuple[bytes, bytes]:
    """Answer of SignCertificate where a local CA signs, and what its event says beside the request."""
    if not fault:
        return b'{"status":"Accepted"}', b',"status":"Accepted"'
    return b'{"status":"Rejected"}', b',"status":"Rejected","fault":%b' % dumps(fault)


# 1.6 knows fewer words; the gateway's setting uses those of either version.
_STATUS_16 = {"ConcurrentTx": "ConcurrentTx", "Accepted": "Accepted", "Blocked": "Blocked", "Expired": "Expired"}


def id_tag_info(rules: AnswerRules, id_tag: str, now: float) -> dict[str, str]:
    """1.6 IdTagInfo: a status that only 2.x has becomes Invalid."""
    known = rules.known_token(id_tag)
    info = {"status": _STATUS_16.get(known.status_at(now), "Invalid")}
    if known.expires_at is not None:
        info["expiryDate"] = rfc3339(known.expires_at).decode()
    if known.parent is not None:
        info["parentIdTag"] = known.parent
    return info


def id_token_info(rules: AnswerRules, id_token: Mapping[str, Any], now: float) -> dict[str, Any]:
    """2.x IdTokenInfo. A NoAuthorization token (button, key switch) carries no identity to refuse."""
    if id_token["type"] == "NoAuthorization":
        return {"status": "Accepted"}
    known = rules.known_token(id_token["idToken"], id_token["type"])
    info: dict[str, Any] = {"status": known.status_at(now)}
    if known.expires_at is not None:
        info["cacheExpiryDateTime"] = rfc3339(known.expires_at).decode()
    if known.parent is not None:
        info["groupIdToken"] = {"idToken": known.parent, "type": "Central"}
    return info


def _authorize_16(rules: AnswerRules, payload: Mapping[str, Any], now: float) -> bytes:
    return dumps({"idTagInfo": id_tag_info(rules, payload["idTag"], now)})


def _authorize_2x(rules: AnswerRules, payload: Mapping[str, Any], now: float) -> bytes:
    return dumps({"idTokenInfo": id_token_info(rules, payload["idToken"], now)})


def _data_transfer(rules: AnswerRules, payload: Mapping[str, Any], _now: float) -> bytes:
    known = payload["vendorId"] in rules.data_transfer_vendors
    return b'{"status":"Accepted"}' if known else b'{"status":"UnknownVendorId"}'


def _chain_status(_rules: AnswerRules, payload: Mapping[str, Any], now: float) -> bytes:
    """2.1 GetCertificateChainStatus: the gateway has no OCSP or CRL source for vehicle certificates."""
    answers = [
        {
            "certificateHashData": request["certificateHashData"],
            "source": request["source"],
            "status": "Failed",
            "nextUpdate": rfc3339(now).decode(),
        }
        for request in payload["certificateStatusRequests"]
    ]
    return dumps({"certificateStatus": answers})


def _vat_number(_rules: AnswerRules, payload: Mapping[str, Any], _now: float) -> bytes:
    """2.1 VatNumberValidation: there is no register to ask."""
    return dumps({"vatNumber": payload["vatNumber"], "status": "Rejected"})


def _sign_certificate(rules: AnswerRules, _payload: Mapping[str, Any], _now: float) -> bytes:
    return b'{"status":"%b"}' % rules.sign_certificate.encode()


_ACCEPTED = _fixed(b'{"status":"Accepted"}')
_REJECTED = _fixed(b'{"status":"Rejected"}')
_FAILED = _fixed(b'{"status":"Failed"}')

_COMMON: dict[str, Answer] = {
    "Heartbeat": _heartbeat,
    "DataTransfer": _data_transfer,
    "SignCertificate": _sign_certificate,
}
_2X: dict[str, Answer] = {
    **_COMMON,
    "Authorize": _authorize_2x,
    "NotifyEVChargingNeeds": _REJECTED,
    "NotifyEVChargingSchedule": _ACCEPTED,
    "Get15118EVCertificate": _fixed(b'{"status":"Failed","exiResponse":""}'),
    "GetCertificateStatus": _FAILED,
}
SPECIAL: Mapping[str, Mapping[str, Answer]] = {
    V16.name: {**_COMMON, "Authorize": _authorize_16},
    V201.name: _2X,
    V21.name: {
        **_2X,
        "NotifyEVChargingNeeds": _fixed(b'{"status":"NoChargingProfile"}'),
        "OpenPeriodicEventStream": _ACCEPTED,
        "PullDynamicScheduleUpdate": _REJECTED,
        "VatNumberValidation": _vat_number,
        "GetCertificateChainStatus": _chain_status,
    },
}


def answer(version: OcppVersion, action: str, rules: AnswerRules, payload: Mapping[str, Any], now: float) -> bytes:
    """JSON of the CALLRESULT payload for a valid `payload` of `action`; `now` in seconds since the epoch."""
    special = SPECIAL[version.name].get(action)
    return EMPTY if special is None else special(rules, payload, now)
