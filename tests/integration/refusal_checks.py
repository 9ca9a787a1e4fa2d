"""What has to be true of every refusal, wherever it is told."""

import io
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout

from ocppgw.access.refusals import Reason
from ocppgw.cli.attempts import blocks, folded
from ocppgw.cli.explain import summary
from ocppgw.cli.output import print_block
from tests.integration.harness import Gateway, JsonObject
from tests.integration.knocking import Answer

_TIMES_VARY = (Reason.TOO_MANY_HANDSHAKES, Reason.TOO_MANY_REFUSALS, Reason.DUPLICATE_FLAPPING)


def is_answer(answer: Answer, reason: Reason) -> None:
    """Constants only, and the headers that its status asks for."""
    assert (answer.status, answer.phrase, answer.body) == (reason.status, reason.text, f"{reason.text}\n"), answer
    headers = dict(answer.headers)
    if reason in _TIMES_VARY:
        assert 1 <= int(headers.pop("retry-after")) <= 61
    elif reason.retry_after:
        assert headers.pop("retry-after") == str(reason.retry_after)
    assert headers == {
        **({"www-authenticate": 'Basic realm="ocpp", charset="UTF-8"'} if reason.status == 401 else {}),
        **({"upgrade": "websocket"} if reason.status == 426 else {}),
        "connection": "upgrade, close" if reason.status == 426 else "close",
        "content-type": "text/plain",
        "content-length": str(len(reason.text) + 1),
    }


def is_line(lines: Sequence[str], reason: Reason, *parts: str) -> None:
    (line,) = [line for line in lines if "refused " in line]
    assert re.search(rf"\[{reason.code}\]|: {reason.code}\b", line)
    for part in (f"; {reason.remedy} (", *parts):
        assert part in line


def explains(attempt: JsonObject, reason: Reason) -> None:
    """`ocppgw explain` prints its remedy, in the sentence on top and with the attempt."""
    assert attempt["remedy"] == reason.remedy
    assert summary("CP-1", None, None, [attempt]).endswith(f"({reason.code}): {reason.remedy}")
    with redirect_stdout(io.StringIO()) as printed:
        print_block(*blocks(folded([attempt])))
    for part in (reason.code, reason.remedy, attempt.get("detail", "")):
        assert part in printed.getvalue()


def handshakes(gateway: Gateway) -> Counter[str]:
    """The metric by outcome."""
    text = gateway.http("GET", "/metrics").body.decode()
    samples = re.findall(r'^ocppgw_handshakes_total{outcome="(\w+)"} (\S+)$', text, re.MULTILINE)
    return Counter({outcome: int(float(value)) for outcome, value in samples})
