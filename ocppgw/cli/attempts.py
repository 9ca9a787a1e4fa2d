"""Connection attempts as a field engineer reads them: what became of each, what to do about it, then the facts.

Takes what `/v1/attempts` gives (`ocppgw.access.attempts.shown`). Much of it was sent by strangers: it is escaped.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ocppgw.access.attempts import ADMITTED
from ocppgw.access.refusals import Reason
from ocppgw.cli.output import grid
from ocppgw.logs import printable

Attempt = Mapping[str, Any]

LABEL_WIDTH = len("subprotocols")
MAX_CIPHERS = 3  # shown of an attempt that did not fail for them
_FAILED_FOR_OFFERS = (Reason.TLS_VERSION.code, Reason.TLS_NO_COMMON_CIPHER.code)
_METHODS = {"basic": "password", "token": "token", "mtls": "client certificate", "none": "nothing, as nobody asked"}


@dataclass(frozen=True, slots=True)
class Fold:
    """Attempts that are all alike: the newest, how many more there are, and when the oldest was."""

    attempt: Attempt
    more: int = 0
    since: str = ""


def folded(attempts: Sequence[Attempt]) -> list[Fold]:
    """Newest first, as they came; those alike in everything but the time as one."""
    folds: dict[bytes, Fold] = {}
    for attempt in attempts:
        rest = {name: value for name, value in attempt.items() if name != "at"}
        key = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)
        known = folds.get(key)
        folds[key] = Fold(attempt) if known is None else Fold(known.attempt, known.more + 1, str(attempt["at"]))
    return list(folds.values())


def is_refused(attempt: Attempt) -> bool:
    """Whether it was kept out, or thrown out later."""
    return str(attempt["outcome"]) != ADMITTED


def is_guess(attempt: Attempt) -> bool:
    """Whether only its address tells that it was the station's."""
    return attempt.get("matchedBy") == "address"


def when(at: object) -> str:
    """A time as people read it, to the second."""
    text = str(at)
    return f"{text[:10]} {text[11:19]}Z" if len(text) > 19 else text


def blocks(folds: Sequence[Fold]) -> Iterator[RenderableType]:
    """Each with a heading and its facts, a blank line before it."""
    for fold in folds:
        yield Text("")
        yield _heading(fold.attempt)
        table = grid()
        table.columns[0].style, table.columns[0].min_width = "dim", LABEL_WIDTH
        for name, value, style in _rows(fold):
            table.add_row(name, Text(printable(value), style=style))
        yield Padding(table, (0, 0, 0, 2))


def _heading(attempt: Attempt) -> Table:
    verdict, style = _verdict(attempt)
    who = " ".join(str(attempt[name]) for name in ("address", "chargePointId") if attempt.get(name))
    heading = grid()
    heading.add_row(Text(when(attempt["at"]), style="bold"), Text.assemble(f"{printable(who)}  ", (verdict, style)))
    return heading


def _verdict(attempt: Attempt) -> tuple[str, str]:
    outcome = printable(str(attempt["outcome"]))
    if not is_refused(attempt):
        return "let in", "bold green"
    if attempt.get("closeCode"):
        return f"cut off, close code {attempt['closeCode']}: {outcome}", "bold red"
    if attempt.get("status"):
        return f"refused, HTTP {attempt['status']}: {outcome}", "bold red"
    where = "in the TLS handshake" if outcome.startswith("Tls") else "before HTTP"
    return f"refused {where}: {outcome}", "bold red"


def _rows(fold: Fold) -> Iterator[tuple[str, str, str]]:
    """(name, value, style)"""
    attempt = fold.attempt
    yield from (("why", str(attempt[name]), "") for name in ("detail",) if attempt.get(name))
    yield from (("remedy", str(attempt[name]), "yellow") for name in ("remedy",) if attempt.get(name))
    for name, value in facts(attempt):
        yield name, value, ""
    if fold.more:
        yield "again", f"{fold.more} more like it since {when(fold.since)}", "bold"


def facts(attempt: Attempt) -> Iterator[tuple[str, str]]:
    """What is known about an attempt."""
    if is_guess(attempt):
        yield "found by", "its address: it may be another station behind the same one"
    if attempt.get("url"):
        yield "URL", str(attempt["url"])
        yield "subprotocols", _subprotocols(attempt)
    if attempt.get("method") or attempt.get("securityProfile") is not None:
        yield "proof", _proof(attempt)
    yield from _tls(attempt)
    yield from _certificate(attempt)
    if attempt.get("listener") or attempt.get("proxy"):
        proxy = f"by way of the proxy {attempt['proxy']}" if attempt.get("proxy") else ""
        yield "came in", ", ".join(filter(None, (attempt.get("listener", ""), proxy)))


def _tls(attempt: Attempt) -> Iterator[tuple[str, str]]:
    versions, ciphers = attempt.get("offeredVersions") or (), attempt.get("offeredCiphers") or ()
    version, cipher = attempt.get("tlsVersion", ""), attempt.get("cipher", "")
    if version or versions:
        name = f"SNI {attempt['serverName']}" if attempt.get("serverName") else "no SNI"
        resumed = "session resumed" if attempt.get("resumed") else ""
        yield "TLS", ", ".join(filter(None, (version, cipher, name, resumed)))
    if versions or ciphers:
        offered = _ciphers(ciphers, is_all=attempt["outcome"] in _FAILED_FOR_OFFERS)
        yield "offered", "; ".join(filter(None, (", ".join(map(str, versions)), offered)))
    if attempt.get("alert"):
        yield "alert", str(attempt["alert"])


def _ciphers(names: Sequence[Any], *, is_all: bool) -> str:
    shown = names if is_all else names[:MAX_CIPHERS]
    more = len(names) - len(shown)
    return ", ".join(map(str, shown)) + (f" … and {more} more" if more else "")


def _certificate(attempt: Attempt) -> Iterator[tuple[str, str]]:
    certificate = attempt.get("certificate")
    if not isinstance(certificate, Mapping):
        return
    end = str(certificate.get("notAfter", ""))
    over = " (ran out)" if end < str(attempt["at"]) else ""
    serial = f"serial number {certificate['serialNumber']}" if certificate.get("serialNumber") else ""
    issuer = f"issuer {certificate['issuer']}" if certificate.get("issuer") else ""
    yield "certificate", str(certificate.get("subject") or "without a subject")
    yield "", f"fingerprint {certificate.get('fingerprint')}"
    yield "", ", ".join(filter(None, (f"valid until {when(end)}{over}", serial, issuer)))
    binding = certificate.get("binding")
    if binding and binding != attempt.get("detail"):
        yield "binding", str(binding)


def _subprotocols(attempt: Attempt) -> str:
    offered = ", ".join(map(str, attempt.get("subprotocols") or ())) or "none offered"
    chosen = attempt.get("subprotocol")
    return f"{offered}; chosen: {chosen}" if chosen else offered


def _proof(attempt: Attempt) -> str:
    method, profile = attempt.get("method", ""), attempt.get("securityProfile")
    shown = "" if profile is None else f"security profile {profile}"
    return ", ".join(filter(None, (_METHODS.get(method, method), shown)))
