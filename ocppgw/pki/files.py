"""Certificates and keys in files. Everything here blocks: call it at start, or in a thread.

A file with a key is created with mode 0600 and never had another one. A file is written whole or not at all.
"""

import os
from pathlib import Path

from cryptography import x509

from ocppgw.pki.pem import Credentials, PkiError, parse_certificates, parse_credentials

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644
FOLDER_MODE = 0o755


def read(path: Path) -> bytes:
    """The file's content; PkiError names the file and what kept it from being read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise PkiError(f"{path} does not exist") from error
    except OSError as error:
        raise PkiError(f"{path} can't be read: {error.strerror}") from error


def read_certificates(path: Path) -> list[x509.Certificate]:
    """All certificates of a PEM file."""
    return parse_certificates(read(path), str(path))


def read_credentials(certificate: Path, key: Path | None = None) -> Credentials:
    """A certificate with its chain, and its key from a file of its own or from the same one."""
    if key is None:
        return parse_credentials(read(certificate), str(certificate))
    return parse_credentials(read(certificate), str(certificate), read(key), str(key))


def write_private(path: Path, data: bytes, *, replace: bool = False) -> None:
    """Write a file with a key in it. PkiError when there is one already, unless it is to be replaced."""
    _write(path, data, PRIVATE_MODE, replace)


def write_public(path: Path, data: bytes, *, replace: bool = False) -> None:
    """Write a file that everybody may read."""
    _write(path, data, PUBLIC_MODE, replace)


def _write(path: Path, data: bytes, mode: int, replace: bool) -> None:
    _make_folder(path.parent)
    target = path.with_name(f".{path.name}.{os.urandom(4).hex()}") if replace else path
    try:
        _create(target, data, mode)
        if replace:
            target.replace(path)
    except FileExistsError as error:
        raise PkiError(f"{path} exists already", hint="nothing was changed; --force replaces it") from error
    except OSError as error:
        raise PkiError(f"{path} can't be written: {error.strerror}") from error


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise PkiError(f"the folder {path} can't be made: {error.strerror}") from error


def _create(path: Path, data: bytes, mode: int) -> None:
    file = open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb")  # noqa: SIM115  closed below
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise
