"""Failures of a connection to Redis, as sentences for the operator."""

import re

from twisted.internet.defer import TimeoutError as LoginTimeout
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import ConnectionRefusedError as NobodyListens
from txredisapi import ResponseError

from ocppgw.net.redis.health import Trouble

# In a script, Redis before version 7 puts words of its own in front.
_KIND = re.compile(r"(?:ERR Error running script .*: -)?([A-Z]+)(?: |$)")


class Refused(Exception):
    """Redis does not let this node in, or is not the one to talk to; `trouble` says why."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.reason)
        self.trouble = trouble


def trouble_of(error: Exception, where: str, host: str) -> Trouble:
    """`where` is the Redis that was to be connected to, `host` the host of it."""
    if isinstance(error, Refused):
        return error.trouble
    if isinstance(error, ResponseError):
        kind = str(error).partition(" ")[0]
        if kind == "NOAUTH":
            return Trouble("login", f"Redis at {where} asks for a password (put it into the Redis URL)")
        return Trouble(f"refused-{kind}", f"Redis at {where} refuses: {said(error)}")
    if isinstance(error, DNSLookupError):
        return Trouble("unknown-host", f"the Redis host {host!r} is not known")
    if isinstance(error, NobodyListens):
        return Trouble("nobody", f"nobody listens at Redis' address {where}")
    if isinstance(error, ConnectError | LoginTimeout):
        return Trouble("silent", f"Redis at {where} does not answer")
    return Trouble("failed", f"the connection to Redis at {where} failed: {type(error).__name__}: {error}"[:300])


def said(error: Exception) -> str:
    """Without what it repeats of a command: there may be hashes of secrets in it."""
    return str(error).partition(", with args")[0][:200]


def kind_of(error: ResponseError) -> str:
    """OOM, READONLY, BUSY, ...; "" when it begins with no such word."""
    found = _KIND.match(said(error))
    return found[1] if found else ""


def why_not(refusal: str) -> str:
    """Of AUTH, in constant words."""
    if refusal.startswith("WRONGPASS"):
        return "the password or the user is wrong"
    if "without any password" in refusal:
        return "there it needs no password, but the Redis URL holds one"
    return f"AUTH was refused ({refusal.partition(' ')[0][:20]})"
