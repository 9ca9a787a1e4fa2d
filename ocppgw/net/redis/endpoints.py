"""Where connections to Redis go: to the URL's host, or to the master that the Sentinels name; with TLS or without."""

from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from ocppgw.errors import ConfigError
from ocppgw.net.redis.sentinel import MasterEndpoint
from ocppgw.net.redis.settings import RedisSettings

TlsTo = Callable[[str], Any]  # a host's name → what makes TLS to it (IOpenSSLClientConnectionCreator)


def endpoint_of(settings: RedisSettings, reactor: Any, tls: TlsTo | None = None) -> IStreamClientEndpoint:
    """Errors: ConfigError when the URL is rediss:// and `tls` is missing."""
    if (settings.address.tls or settings.sentinel_tls) and tls is None:
        raise ConfigError(
            "the Redis URL is rediss://, but nothing says whom to trust", hint="set Redis' CA certificates"
        )

    def endpoint_to(host: str, port: int, with_tls: bool) -> IStreamClientEndpoint:
        plain = HostnameEndpoint(reactor, host, port, timeout=settings.connect_timeout)
        if not with_tls or tls is None:
            return plain
        wrapped: IStreamClientEndpoint = wrapClientTLS(tls(host), plain)
        return wrapped

    if settings.sentinels:
        return MasterEndpoint(settings, reactor, endpoint_to)
    return endpoint_to(settings.address.host, settings.address.port, settings.address.tls)
