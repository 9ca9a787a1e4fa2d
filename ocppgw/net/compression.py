"""permessage-deflate (RFC 7692): which of a client's offers are taken, and how.

Without context takeover in both directions: a window kept for every connection would cost up to 300 KiB each.
"""

from collections.abc import Iterable
from typing import Any

from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept

Extension = tuple[str, dict[str, list[Any]]]  # as Autobahn parses Sec-WebSocket-Extensions


def honourable(extensions: Iterable[Extension]) -> list[Extension]:
    """The offers whose parameters can be honoured. The rest are declined (RFC 7692 section 7.1), and the client is
    served uncompressed; Autobahn alone would refuse the whole handshake."""
    return [extension for extension in extensions if _is_honourable(*extension)]


def _is_honourable(name: str, parameters: dict[str, list[Any]]) -> bool:
    if name != PerMessageDeflateOffer.EXTENSION_NAME:
        return False
    try:
        PerMessageDeflateOffer.parse(parameters)
    except Exception:  # Autobahn raises nothing narrower
        return False
    return True


def accept(offers: Iterable[Any]) -> Any:
    """Autobahn's perMessageCompressionAccept: take the first offer, None when there is none."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(
                offer,
                request_no_context_takeover=offer.accept_no_context_takeover,
                no_context_takeover=True,
            )
    return None
