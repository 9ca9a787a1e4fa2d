"""`ocppgw pki`: a CA of one's own, server and station certificates and CRLs, to try TLS with in two minutes.

What is to be pasted or piped (the configuration) goes to stdout, the words around it to stderr.
"""

import json
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from rich.console import Console
from rich.text import Text

from ocppgw.access.certificates import ClientCertificate, read_certificate
from ocppgw.cli.connection import failure
from ocppgw.cli.output import print_fields, print_table
from ocppgw.errors import OcppgwError
from ocppgw.logs import printable
from ocppgw.pki import PkiError, PkiFolder
from ocppgw.pki.files import read_certificates
from ocppgw.pki.issuing import SERVER_DAYS, STATION_DAYS
from ocppgw.pki.revocation import ALREADY_REVOKED, CRL_DAYS

DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")
DEFAULT_ORGANIZATION = "Development"
MAX_DAYS = 36500
MAX_ID_LENGTH = 48  # OCPP 2.x identity, part 4 section 3.1
CURVES = {"secp224r1": "P-224", "secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
DEVELOPMENT = "For development: these keys lie unprotected on this disk. Never give them to stations in the field."

_FOLDER = click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
_FORCE = click.option("--force", is_flag=True, help="Replace files that are there already.")


def _days(default: float, what: str) -> Callable[[Any], Any]:
    return click.option("--days", type=click.IntRange(1, MAX_DAYS), default=int(default), show_default=True, help=what)


def _failing(function: Callable[..., None]) -> Callable[..., None]:
    """Print failures as one sentence and its mend, and exit 1."""

    @wraps(function)
    def wrapped(**arguments: Any) -> None:
        try:
            function(**arguments)
        except OcppgwError as error:
            raise failure(error) from error

    return wrapped


@click.group()
def pki() -> None:
    """Make a development CA, certificates of the gateway and of stations, and CRLs.

    \b
    ocppgw pki init var/pki                 CA, the gateway's certificates, CRLs; prints the configuration
    ocppgw pki station var/pki CP-001       a station's certificate
    ocppgw pki revoke var/pki CP-001        put it on the CRL

    The keys are for development: they lie unprotected in the folder. Use a real CA for stations in the field.
    """


@pki.command()
@_FOLDER
@click.option(
    "--name",
    "names",
    multiple=True,
    default=DEFAULT_NAMES,
    show_default=True,
    help="Host name or IP address of the gateway; may be repeated.",
)
@click.option(
    "--organization", default=DEFAULT_ORGANIZATION, show_default=True, help="O in all certificates: the operator."
)
@_FORCE
@_failing
def init(folder: Path, names: tuple[str, ...], organization: str, force: bool) -> None:
    """Make a CA, the gateway's certificates (RSA and ECDSA) and empty CRLs in DIR; print the configuration for them.

    \b
    ocppgw pki init var/pki
    ocppgw pki init var/pki --name ocpp.test --name 192.0.2.7 --organization "My Company"
    ocppgw pki init var/pki >> etc/my-ocppgw.toml
    """
    made = PkiFolder(folder)
    made.create(organization, names, time.time(), replace=force)
    _say(f"A development PKI is in {folder}, for {', '.join(names)}.", style="green")
    _say(DEVELOPMENT, style="yellow")
    _say("\nPut this into the gateway's configuration:\n")
    click.echo(_configuration(made))
    _say("\nThen make certificates of stations, and let simulated ones use them:\n")
    where, host = shlex.quote(str(folder)), f"[{names[0]}]" if ":" in names[0] else names[0]
    _say(f"  ocppgw pki station {where} SIM-00001 SIM-00002")
    _say(
        f"  ocppgw simulate --count 2 --url wss://{host}:8080/ocpp"
        f" --ca-file {shlex.quote(str(made.root))} --cert {shlex.quote(str(folder / 'stations'))}"
    )


@pki.command()
@_FOLDER
@click.option(
    "--name", "names", multiple=True, required=True, help="Host name or IP address of the server; may be repeated."
)
@_days(SERVER_DAYS, "How long the certificates are valid.")
@_FORCE
@_failing
def server(folder: Path, names: tuple[str, ...], days: int, force: bool) -> None:
    """Make certificates (RSA and ECDSA) for one more host name of the gateway (SNI).

    \b
    ocppgw pki server var/pki --name ocpp.example.com
    """
    files = PkiFolder(folder).add_server(names, time.time(), days=days, replace=force)
    _say(
        f"Certificates for {', '.join(names)}. {DEVELOPMENT}\n\nPut this under [tls] in the gateway's configuration:\n"
    )
    click.echo(f"sni = {{ {_toml(names[0])} = {_toml_paths(files)} }}")


@pki.command()
@_FOLDER
@click.argument("station_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--rsa", "is_rsa", is_flag=True, help="An RSA 2048 key; without it, P-256.")
@_days(STATION_DAYS, "How long the certificate is valid.")
@click.option(
    "--serial-number",
    metavar="TEXT",
    help="The station's serial number, as in its BootNotification: it becomes the CN.  [default: CN is the id]",
)
@_FORCE
@_failing
def station(
    folder: Path, station_ids: tuple[str, ...], is_rsa: bool, days: int, serial_number: str | None, force: bool
) -> None:
    """Make client certificates of stations: key, certificate and chain in DIR/stations/ID.pem.

    Before you replace one with --force, revoke it: afterwards its id names the new one.

    \b
    ocppgw pki station var/pki CP-001
    ocppgw pki station var/pki CP-001 --serial-number SN-4711 --rsa
    ocppgw pki station var/pki SIM-00001 SIM-00002 SIM-00003
    """
    if serial_number is not None and len(station_ids) > 1:
        raise click.UsageError("--serial-number is for one station: give one ID with it")
    for station_id in station_ids:
        _check_id(station_id)
    made = PkiFolder(folder)
    files = [
        made.add_station(one, time.time(), common_name=serial_number, days=days, is_rsa=is_rsa, replace=force)
        for one in station_ids
    ]
    facts = [_facts(read_certificates(path)[0]) for path in files]
    if len(files) == 1:
        _show_station(station_ids[0], files[0], facts[0])
    else:
        rows = ([*row[:2], row[2].fingerprint] for row in zip(station_ids, files, facts, strict=True))
        print_table(("STATION", "FILE", "FINGERPRINT"), ([one, str(path), digits] for one, path, digits in rows))
        _say("\nBind each to its identity: ocppgw add-cert STATION FILE")
    _say(DEVELOPMENT, style="yellow")


@pki.command()
@_FOLDER
@click.argument("which", metavar="ID|FILE")
@_days(CRL_DAYS, "How long the CRL is valid.")
@_failing
def revoke(folder: Path, which: str, days: int) -> None:
    """Put a certificate on its CA's CRL, which is written anew. ID: the station's certificate in DIR.

    \b
    ocppgw pki revoke var/pki CP-001
    ocppgw pki revoke var/pki old/CP-001.pem
    """
    try:
        certificate, path = PkiFolder(folder).revoke(which, time.time(), days=days)
    except PkiError as error:
        if error.code != ALREADY_REVOKED:
            raise
        click.echo(f"Nothing to do: {printable(str(error))}")
        return
    facts = _facts(certificate)
    click.echo(f"Revoked: {printable(facts.subject)}, serial number {facts.serial_number}, in {path}")
    _say("The gateway reads it within tls.crl_reload_seconds, or at once on SIGHUP.")


@pki.command()
@_FOLDER
@_days(CRL_DAYS, "How long the CRLs are valid.")
@_failing
def crl(folder: Path, days: int) -> None:
    """Write both CRLs again, with the same revocations and a later end.

    \b
    ocppgw pki crl var/pki --days 90
    """
    for path in PkiFolder(folder).refresh_crls(time.time(), days=days):
        made = x509.load_pem_x509_crl(path.read_bytes())
        assert made.next_update_utc is not None
        click.echo(f"{path}: {len(made)} revoked, good until {_moment(made.next_update_utc.timestamp())}")


@pki.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@_failing
def show(file: Path) -> None:
    """Show the certificates in a PEM file; any file, also of another CA.

    \b
    ocppgw pki show var/pki/stations/CP-001.pem
    """
    for number, certificate in enumerate(read_certificates(file)):
        if number:
            click.echo()
        print_fields(_described(certificate))


def _show_station(station_id: str, path: Path, facts: ClientCertificate) -> None:
    print_fields(
        [
            ("file", f"{path} (key, certificate and chain)"),
            ("subject", facts.subject),
            ("fingerprint", facts.fingerprint),
            ("valid until", _moment(facts.not_after)),
        ]
    )
    binding = {"fingerprint": facts.fingerprint, "chargePointId": station_id, "status": "active"}
    _say(f"\nBind it to the identity:\n\n  ocppgw add-cert {shlex.quote(station_id)} {shlex.quote(str(path))}\n")
    _say(f"or write it into auth.certificates of the identity's JSON:\n\n  {json.dumps(binding)}\n")


def _described(certificate: x509.Certificate) -> Iterator[tuple[str, Any]]:
    facts = _facts(certificate)
    yield "subject", facts.subject
    yield "names", ", ".join(facts.names)
    yield "issuer", facts.issuer
    yield "serial number", facts.serial_number
    yield "fingerprint", facts.fingerprint
    yield "valid", f"{_moment(facts.not_before)} to {_moment(facts.not_after)}{_ended(facts)}"
    yield "key", _key(certificate)


def _ended(facts: ClientCertificate) -> str:
    now = time.time()
    return " (expired)" if now > facts.not_after else " (not yet valid)" if now < facts.not_before else ""


def _key(certificate: x509.Certificate) -> str:
    match certificate.public_key():
        case rsa.RSAPublicKey() as key:
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey() as key:
            return f"ECDSA {CURVES.get(key.curve.name, key.curve.name)}"
        case other:
            return type(other).__name__.removesuffix("PublicKey")


def _facts(certificate: x509.Certificate) -> ClientCertificate:
    return read_certificate(certificate.public_bytes(Encoding.DER))


def _configuration(made: PkiFolder) -> str:
    """The tables of the configuration that use this PKI. Paths are absolute: it may be started from anywhere."""
    return "\n".join(
        (
            "[tls]",
            "enabled = true",
            f"cert_path = {_toml_paths(made.servers)}",
            f"ca_path = {_toml_paths([made.clients])}",
            f"crl_path = {_toml_paths(made.crls)}",
            'crl_check = "chain"',
            "",
            "[signing]",
            'mode = "local"',
            f"ca_cert_path = {_toml(made.issuing.absolute())}",
            f"ca_key_path = {_toml(made.issuing_key.absolute())}",
        )
    )


def _toml_paths(paths: Sequence[Path]) -> str:
    return f"[{', '.join(_toml(path.absolute()) for path in paths)}]"


def _toml(text: object) -> str:
    """A basic string of TOML; what JSON escapes, TOML reads too."""
    return json.dumps(str(text), ensure_ascii=False)


def _check_id(station_id: str) -> None:
    if not (0 < len(station_id) <= MAX_ID_LENGTH and station_id.isprintable()):
        raise PkiError(f"{printable(station_id)!r} is no station id", hint=f"1 to {MAX_ID_LENGTH} printable characters")


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _say(text: str, style: str = "") -> None:
    """Words for people, on stderr."""
    Console(stderr=True, highlight=False, emoji=False, soft_wrap=True).print(Text(text, style=style))
