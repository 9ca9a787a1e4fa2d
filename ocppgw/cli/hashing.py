"""Secrets become hashes here, before anything is sent: the gateway and its store never see a plain one.

The parameters of scrypt are no part of an identity, so they must be those the gateway checks with; both sides read the
same variables (OCPP_AUTH_HASH_ALGORITHM, OCPP_AUTH_SCRYPT_N, _R, _P and _KEYLEN).
"""

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from ocppgw.access.authenticate import Hashing
from ocppgw.access.identity import HASH_ALGORITHMS, MIN_HASH_DIGITS
from ocppgw.access.identity_edits import Hashed

DEFAULT_ALGORITHM = "scrypt"
SALT_BYTES = 16

_BOUNDS = {"N": (16384, 2, 1_048_576), "R": (8, 1, 32), "P": (1, 1, 16), "KEYLEN": (32, 32, 64)}


def new_salt() -> str:
    """Text, because a salt is stored as text and used as UTF-8."""
    return secrets.token_hex(SALT_BYTES)


@dataclass(frozen=True, slots=True)
class Hasher:
    """`asked` is the algorithm the operator asked for, None for none; `hashing` has the parameters and the default."""

    hashing: Hashing
    asked: str | None = None
    salt: Callable[[], str] = new_salt

    def algorithm(self, written: object = None) -> str:
        """That of a new hash; `written`: what the identity at hand says."""
        return self.asked or (written if isinstance(written, str) and written else self.hashing.algorithm)

    def hash(self, secret: bytes, algorithm: str, salt: str) -> Hashed:
        """Slow on purpose; releases the interpreter's lock, so that threads share the work."""
        return Hashed(self.hashing.digest(secret, salt.encode(), algorithm).hex(), salt, algorithm)

    def new(self, secret: bytes) -> Hashed:
        """A hash that stands alone."""
        return self.hash(secret, self.algorithm(), self.salt())


class Placeholder(Hasher):
    """Hashes nothing: for looking whether an identity would be right once its secrets are hashed."""

    def hash(self, secret: bytes, algorithm: str, salt: str) -> Hashed:
        return Hashed("0" * MIN_HASH_DIGITS, salt, algorithm)


def with_hasher(function: Callable[..., None]) -> Callable[..., None]:
    """Pass `hasher`, made of --algorithm and the environment."""

    @click.option(
        "--algorithm",
        type=click.Choice(HASH_ALGORITHMS),
        help="How secrets are hashed; without it as OCPP_AUTH_HASH_ALGORITHM says, else scrypt.",
    )
    @wraps(function)
    def wrapped(*arguments: Any, algorithm: str | None, **options: Any) -> None:
        function(*arguments, hasher=Hasher(hashing_from(os.environ), algorithm), **options)

    return wrapped


def hashing_from(environ: Mapping[str, str]) -> Hashing:
    """The gateway's own variables; a wrong one is a usage error, not a hash that never fits."""
    name = "OCPP_AUTH_HASH_ALGORITHM"
    algorithm = environ.get(name, "").strip().lower() or DEFAULT_ALGORITHM
    if algorithm not in HASH_ALGORITHMS:
        raise click.UsageError(f"{name} must be {' or '.join(HASH_ALGORITHMS)}")
    n, r, p, length = (_whole(environ, name) for name in _BOUNDS)
    if n & (n - 1):
        raise click.UsageError(f"OCPP_AUTH_SCRYPT_N is {n}, which is no power of 2: the nearest are {_powers(n)}")
    return Hashing(algorithm, n, r, p, length)


def _whole(environ: Mapping[str, str], short: str) -> int:
    name, (default, least, most) = f"OCPP_AUTH_SCRYPT_{short}", _BOUNDS[short]
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise click.UsageError(f"{name} must be a whole number from {least} to {most}")
    return int(text)


def _powers(n: int) -> str:
    below: int = 1 << (n.bit_length() - 1)
    return f"{below} and {below * 2}"
