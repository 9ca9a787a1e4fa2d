"""Reading PEM and DER files, with every fault and every doubt noted down instead of raised one at a time."""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from stat import S_IRGRP, S_IROTH
from typing import TypeVar

from cryptography import x509

MAX_FILE_BYTES = 64 * 1024 * 1024  # a CRL of a million entries is 40 MB

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----.*?-----END \1-----", re.DOTALL)
_HALF_WRITTEN = "was it being written? write a new file and move it over the old one"
_CERTIFICATE_LABELS = (b"CERTIFICATE", b"X509 CERTIFICATE")
_T = TypeVar("_T")


@dataclass(slots=True)
class Findings:
    """What a load finds out: `problems` forbid the use of the files, `warnings` don't. Each is a sentence that begins
    with the file's name."""

    now: float
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    contents: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    readable_by_others: set[Path] = field(default_factory=set)

    def problem(self, where: object, sentence: str) -> None:
        self.problems.append(f"{where}: {sentence}")

    def warn(self, where: object, sentence: str) -> None:
        self.warnings.append(f"{where}: {sentence}")

    def read(self, path: Path) -> bytes:
        """The file's bytes; b"" when it can't be read, which is noted."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
                if os.fstat(file.fileno()).st_mode & (S_IRGRP | S_IROTH):
                    self.readable_by_others.add(path)
        except OSError as error:
            self.problem(path, f"can't be read: {error.strerror} (check the path and its rights)")
            return b""
        if len(data) > MAX_FILE_BYTES:
            self.problem(path, f"is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB (is it the right file?)")
            return b""
        if not data.strip():
            self.problem(path, f"is empty ({_HALF_WRITTEN})")
        if data.count(b"-----BEGIN ") != data.count(b"-----END "):  # what is there may be whole, and still not all
            self.problem(path, f"has a PEM block that doesn't end ({_HALF_WRITTEN})")
        self.contents.update(str(path).encode() + b"\0" + hashlib.sha256(data).digest())
        return data

    def parsed(self, path: Path, what: str, parse: Callable[[bytes], _T], blocks: list[bytes]) -> list[_T]:
        """Each block as an object. One that can't be parsed is noted and left out."""
        found = []
        for number, block in enumerate(blocks, 1):
            try:
                found.append(parse(block))
            except ValueError as error:
                self.problem(path, f"{what} {number} can't be parsed: {str(error).strip() or 'damaged'} (get it anew)")
        return found

    def certificates(self, path: Path, data: bytes) -> list[x509.Certificate]:
        """All certificates of a PEM file, in its order."""
        blocks = pem_blocks(data, *_CERTIFICATE_LABELS)
        if data.strip() and not blocks:
            hint = "openssl x509 -inform DER -in FILE -out FILE.pem" if data[:1] == b"\x30" else "is it the right file?"
            self.problem(path, f"holds no certificate in PEM (BEGIN CERTIFICATE) ({hint})")
        return self.parsed(path, "certificate", x509.load_pem_x509_certificate, blocks)


def pem_blocks(data: bytes, *labels: bytes) -> list[bytes]:
    """The PEM blocks (RFC 7468) of these labels, in the file's order; text around them is allowed."""
    return [block.group() for block in _BLOCK.finditer(data) if block.group(1) in labels]


def day(moment: datetime) -> str:
    """A moment as an operator reads it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def printable(name: str) -> str:
    """A name out of a certificate that somebody sent: nothing in it may look like another log line."""
    return "".join(character if character.isprintable() else "?" for character in name[:200])
