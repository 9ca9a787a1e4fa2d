"""Secrets in commands: which CALL gives a station its password, what became of it, and what others may see of it.

    1.6  ChangeConfiguration  AuthorizationKey: hex digits of the octets (OCPP-J 1.6 section 6.2.2)
    2.x  SetVariables         SecurityCtrlr.BasicAuthPassword: UTF-8 text (A01; errata of 2.0.1 section 2.1)

Names are compared without case, as chargers do.
"""

import string
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from ocppgw.errors import CommandError
from ocppgw.ocpp.effects import CommandResult
from ocppgw.ocpp.outcomes import Outcome
from ocppgw.ocpp.versions import V16, OcppVersion

Verdict = Literal["accepted", "both", "rejected"]

HIDDEN = "***"
HEX_DIGITS = range(32, 41)  # 16 to 20 octets
MIN_TEXT = 4  # characters of a secret that is looked for in answers: shorter ones are in every other word

_PASSWORD_VARIABLE = ("securityctrlr", "basicauthpassword")
_SECRET_SETTINGS = frozenset({"authorizationkey", "basicauthpassword", "vpnkey", "simpin"})  # and every …Password…
_VALUES = frozenset({"value", "attributevalue"})
_LISTS_OF_SETTINGS = ("setVariableData", "getVariableResult", "configurationKey")


def new_password(version: OcppVersion, action: str, payload: Mapping[str, Any]) -> bytes | None:
    """The password that a valid CALL gives the station, as the octets it will authenticate with; None: it gives none.

    Raises CommandError when the gateway could not know afterwards what the password is.
    """
    if version is V16:
        is_change = action == "ChangeConfiguration" and payload["key"].lower() == "authorizationkey"
        return _usable(_octets(payload["value"])) if is_change else None
    if action != "SetVariables":
        return None
    values = [item["attributeValue"] for item in payload["setVariableData"] if _is_password(item)]
    if len(values) > 1:
        raise CommandError("SetVariables: BasicAuthPassword is set more than once", hint="send one password")
    return _usable(values[0].encode()) if values else None


def password_verdict(version: OcppVersion, result: CommandResult) -> Verdict:
    """Which password the station has after a command that `new_password` found one in.

    accepted: the new one. rejected: the old one. both: it may be either, because the station takes the new one at its
    next start, or nobody knows whether it has taken it.
    """
    response = _answer(result)
    return _without_answer(version, result) if response is None else _of_status(_status(version, response))


def certificate_verdict(version: OcppVersion, result: CommandResult) -> Verdict:
    """The same for a certificate, after CertificateSigned."""
    response = _answer(result)
    return _without_answer(version, result) if response is None else _of_status(response["status"])


def redacted(payload: Any) -> Any:
    """A payload as it may be stored, published and shown: the values of passwords and keys are `***`.

    Takes requests and responses of any action, in the action's own form or an intent's, valid or not.
    """
    if not isinstance(payload, Mapping):
        return payload
    shown = _shown_setting(payload)
    for name in _LISTS_OF_SETTINGS:
        if isinstance(items := shown.get(name), list):
            shown[name] = [_shown_setting(item) if isinstance(item, Mapping) else item for item in items]
    if isinstance(connection := shown.get("connectionData"), Mapping):
        shown["connectionData"] = _shown_connection(connection)
    return shown


def hidden_texts(payload: Any) -> list[str]:
    """What `redacted` hides of a payload."""
    return list(_hidden(payload, redacted(payload)))


def scrubbed(value: Any, texts: Iterable[str]) -> Any:
    """JSON without these texts: some chargers quote in an answer what they were sent. RecursionError when it is nested
    too deeply."""
    if isinstance(value, str):
        for text in texts:
            value = value.replace(text, HIDDEN)
        return value
    if isinstance(value, Mapping):
        return {name: scrubbed(member, texts) for name, member in value.items()}
    return [scrubbed(item, texts) for item in value] if isinstance(value, list) else value


def _hidden(value: Any, shown: Any) -> Iterator[str]:
    if value is shown:
        return
    if shown == HIDDEN:
        if isinstance(value, str) and len(value) >= MIN_TEXT:
            yield value
    elif isinstance(value, Mapping):
        for name, member in value.items():
            yield from _hidden(member, shown[name])
    elif isinstance(value, list):
        for item, other in zip(value, shown, strict=True):
            yield from _hidden(item, other)


def _octets(value: str) -> bytes:
    is_hex = len(value) in HEX_DIGITS and len(value) % 2 == 0 and all(digit in string.hexdigits for digit in value)
    return bytes.fromhex(value) if is_hex else value.encode()


def _usable(secret: bytes) -> bytes:
    if not secret:
        raise CommandError("the station's password would be empty", hint="give it 16 octets (1.6) or characters (2.x)")
    return secret


def _is_password(item: Mapping[str, Any]) -> bool:
    """Whether an item of SetVariables, or of its answer, is about the password in use."""
    names = (item["component"]["name"].lower(), item["variable"]["name"].lower())
    return names == _PASSWORD_VARIABLE and item.get("attributeType", "Actual") == "Actual"


def _answer(result: CommandResult) -> Mapping[str, Any] | None:
    """The payload of a valid CALLRESULT."""
    return result.response if result.error_code is None else None


def _without_answer(version: OcppVersion, result: CommandResult) -> Verdict:
    """An answer that is not valid says nothing; the code of one that can't be read is `envelope`."""
    is_unreadable = result.response is not None or result.error_code == version.codes.envelope
    return "both" if result.outcome is Outcome.UNKNOWN or is_unreadable else "rejected"


def _status(version: OcppVersion, response: Mapping[str, Any]) -> str:
    if version is V16:
        return str(response["status"])
    found = (item["attributeStatus"] for item in response["setVariableResult"] if _is_password(item))
    return next(found, "")


def _of_status(status: str) -> Verdict:
    if status == "Accepted":
        return "accepted"
    return "both" if status in ("RebootRequired", "") else "rejected"  # "": the station left its answer out


def _shown_setting(item: Mapping[str, Any]) -> dict[str, Any]:
    """One setting, written as `key` and `value` or as component, variable and attributeValue."""
    members = {str(name).lower(): value for name, value in item.items()}
    variable = members.get("variable")
    name = variable.get("name") if isinstance(variable, Mapping) else variable
    if not any(_is_secret(given) for given in (name, members.get("key"))):
        return dict(item)
    return {name: HIDDEN if str(name).lower() in _VALUES else value for name, value in item.items()}


def _is_secret(name: object) -> bool:
    if not isinstance(name, str):
        return False
    last = name.rpartition(".")[2].lower()
    return last in _SECRET_SETTINGS or "password" in last


def _shown_connection(connection: Mapping[str, Any]) -> dict[str, Any]:
    """The connectionData of 2.x SetNetworkProfile."""
    shown = _without(connection, "basicAuthPassword")
    if isinstance(apn := shown.get("apn"), Mapping):
        shown["apn"] = _without(apn, "apnPassword", "simPin")
    if isinstance(vpn := shown.get("vpn"), Mapping):
        shown["vpn"] = _without(vpn, "password", "key")
    return shown


def _without(members: Mapping[str, Any], *secret: str) -> dict[str, Any]:
    return {name: HIDDEN if name in secret else value for name, value in members.items()}
