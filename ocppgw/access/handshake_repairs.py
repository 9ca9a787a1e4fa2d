"""Handshakes that bend the standard, mended for stations whose quirk profile says so (`ocppgw.ocpp.quirks`).

    url-spelling           /ocpp/1.6//CP-1, /ocpp/1.6/CP-1/ and /ocpp/1.6/CP-1/CP-1 mean /ocpp/1.6/CP-1
    subprotocol-spelling   ocpp16, OCPP-1.6 or 1.6J mean ocpp1.6; what the client offered is echoed as it is
    no-subprotocol         none is offered: the URL says the version, and the answer has no subprotocol either

Nothing is made up: without a version in the URL a station that offers no subprotocol stays refused.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from ocppgw.ocpp.versions import OcppVersion

MAX_REPEATS = 4  # of the id, so that a long path costs little

_MARKS = re.compile(r"[^a-z0-9]")


def plain_paths(path: str) -> Iterator[str]:
    """What `path` may have meant: without empty segments, then with its last one fewer times as long as it repeats."""
    segments = [segment for segment in path.split("/") if segment]
    for _ in range(MAX_REPEATS):
        yield "/" + "/".join(segments)
        if len(segments) < 2 or segments[-1] != segments[-2]:
            return
        segments.pop()


def meant_subprotocol(
    offers: Iterable[str], path_version: OcppVersion | None, served: Sequence[OcppVersion]
) -> tuple[OcppVersion, str] | None:
    """The first offer whose letters and digits name a served version, and the URL's when that names one."""
    known = {_plain(name): version for version in served for name in version.subprotocols}
    for offer in offers:
        version = known.get(_plain(offer))
        if version is not None and path_version in {None, version}:
            return version, offer.strip()
    return None


def _plain(name: str) -> str:
    return _MARKS.sub("", name.lower()).removeprefix("ocpp")
