"""A new secret, from standard input or made here; never from the command line, which every user of a machine can read.

A secret is octets: a 1.6 AuthorizationKey may be any 16 to 20 of them (OCPP-J 1.6 section 6.2.2), a 2.x
BasicAuthPassword is UTF-8. One that is made here is both: 20 letters and digits.
"""

import re
import secrets
import string
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import click

from ocppgw.cli.documents import BadInput, is_terminal

ALPHABET = string.ascii_letters + string.digits
SECRET_LENGTH = 20  # the longest AuthorizationKey: 119 bits
TOKEN_LENGTH = 40
MIN_OCTETS, MAX_KEY_OCTETS = 16, 20
MAX_INPUT = 4096
_TOKEN = re.compile(rb"[!-~]+")
_UNSENDABLE = "must be visible ASCII without blanks: nothing else fits into an HTTP header"


@dataclass(frozen=True, slots=True)
class NewSecret:
    """`kind` is secret or token; `is_made` tells that nobody knows it yet, so that it has to be shown."""

    kind: str
    octets: bytes = field(repr=False)
    is_made: bool = False

    def shown(self) -> dict[str, str]:
        """What is shown of it, once: nothing, unless it was made here."""
        if not self.is_made:
            return {}
        text = self.octets.decode("ascii")
        return {"token": text} if self.kind == "token" else {"secret": text, "secretHex": self.octets.hex()}

    def notes(self) -> Iterator[str]:
        """What the operator should know about it."""
        if self.is_made:
            yield f"The {self.kind} is shown this once; only its hash is stored."
        if self.is_made and self.kind == "secret":
            yield "secretHex is the same, as ChangeConfiguration takes it for AuthorizationKey (OCPP 1.6)."


def generate(kind: str) -> NewSecret:
    """A secret or token that nobody can guess."""
    length = TOKEN_LENGTH if kind == "token" else SECRET_LENGTH
    return NewSecret(kind, "".join(secrets.choice(ALPHABET) for _ in range(length)).encode(), is_made=True)


def from_stdin(kind: str, *, is_hex: bool = False) -> NewSecret:
    """One line of standard input as octets, or asked for without echo where that is a terminal."""
    octets = _asked(kind) if is_terminal() else _line(kind)
    return NewSecret(kind, usable(kind, from_hex(octets.decode("latin-1"), "standard input") if is_hex else octets))


def usable(kind: str, octets: bytes, where: str = "standard input") -> bytes:
    """The octets, unless no station could send them."""
    if not octets:
        raise BadInput(f"{where} holds no {kind}")
    if kind == "token" and not _TOKEN.fullmatch(octets):
        raise BadInput(f"the token in {where} {_UNSENDABLE}")
    return octets


def from_hex(text: str, where: str) -> bytes:
    """The octets of a 1.6 AuthorizationKey in the form ChangeConfiguration has it."""
    fault = hex_fault(text)
    if fault:
        raise BadInput(f"the secret in {where} {fault}")
    return bytes.fromhex(text)


def hex_fault(text: str) -> str:
    """What keeps a text from being the hexadecimal form of an AuthorizationKey, "" for nothing."""
    is_hex = len(text) % 2 == 0 and all(digit in string.hexdigits for digit in text)
    if is_hex and MIN_OCTETS <= len(text) // 2 <= MAX_KEY_OCTETS:
        return ""
    return (
        f"must be {2 * MIN_OCTETS} to {2 * MAX_KEY_OCTETS} hex digits, the {MIN_OCTETS} to {MAX_KEY_OCTETS} octets "
        "of a 1.6 AuthorizationKey"
    )


def token_fault(octets: bytes) -> str:
    """What keeps octets from being a token, "" for nothing."""
    return "" if _TOKEN.fullmatch(octets) else _UNSENDABLE


def shortness(octets: bytes) -> str:
    """What is to be said against a password, "" for nothing: older stations have short ones."""
    return f"is shorter than the {MIN_OCTETS} octets that OCPP asks for" if len(octets) < MIN_OCTETS else ""


def _asked(kind: str) -> bytes:
    text: str = click.prompt(kind.capitalize(), hide_input=True, confirmation_prompt=True, err=True)
    return text.encode(errors="surrogateescape")  # what isn't UTF-8 comes as it was typed


def _line(kind: str) -> bytes:
    data = sys.stdin.buffer.read(MAX_INPUT + 1)
    line = data.removesuffix(b"\n").removesuffix(b"\r")
    if len(data) > MAX_INPUT or b"\n" in line:
        raise BadInput(f"standard input must hold the {kind} alone, on one line")
    return line
