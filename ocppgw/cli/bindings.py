"""`ocppgw add-cert`, `revoke-cert` and `revocations`: which client certificates are a station's, and which nobody's."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ocppgw.access.certificates import ClientCertificate, normal_fingerprint, read_certificate
from ocppgw.cli.audit import with_audit
from ocppgw.cli.client import OperationsClient
from ocppgw.cli.connection import with_client
from ocppgw.cli.documents import BadInput, read_file
from ocppgw.cli.output import note, print_fields, print_json, print_table
from ocppgw.pki.pem import PkiError, parse_certificates

NEVER = "none"
_PEM = click.Path(dir_okay=False, path_type=str)
_CRITERIA = ("fingerprint", "subject", "san", "serial")


@click.command("add-cert")
@click.argument("charge_point_id", metavar="ID")
@click.argument("file", metavar="[FILE.pem]", type=_PEM, required=False)
@click.option("--fingerprint", metavar="HEX", help="SHA-256 fingerprint of the certificate, in place of FILE.pem.")
@click.option(
    "--from", "begin", metavar="TIME", help='When the binding begins; "none": at once.  [default: as the certificate]'
)
@click.option("--to", "end", metavar="TIME", help='When it ends; "none": never.  [default: as the certificate]')
@click.option(
    "--by",
    "criteria",
    type=click.Choice(_CRITERIA),
    multiple=True,
    default=("fingerprint",),
    show_default=True,
    help="What the certificate is recognised by; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the identity (secrets masked) as one JSON object.")
@with_audit
@with_client
def add_cert(
    client: OperationsClient,
    *,
    charge_point_id: str,
    file: str | None,
    fingerprint: str | None,
    begin: str | None,
    end: str | None,
    criteria: tuple[str, ...],
    as_json: bool,
    audit: Mapping[str, str],
) -> None:
    """Bind a client certificate to a station. It is bound beside those there are: with windows that overlap, a station
    changes its certificate without a gap.

    \b
    ocppgw add-cert CP-001 CP-001.pem
    ocppgw add-cert CP-001 next.pem --from 2027-01-01T00:00:00Z
    ocppgw add-cert CP-001 --fingerprint AA:BB:... --to 2028-01-01T00:00:00Z

    A binding fits a certificate as soon as ANY ONE of its members does. That is why only the fingerprint is written: it
    is this very certificate's. --by subject or --by san lets in every certificate with that name, for example the
    renewed one (then with --to none), but also one that somebody else got the CA to sign. --by serial is as good as the
    fingerprint while all stations' certificates come from one CA.

    \b
    Exit code: 0 bound, 1 refused by the gateway or the gateway is not reachable,
    2 wrong usage or a certificate that can't be used.
    """
    if (file is None) == (fingerprint is None):
        raise click.UsageError("name the certificate: FILE.pem or --fingerprint")
    certificate = None if file is None else _station_certificate(file)
    if fingerprint is not None and set(criteria) != {"fingerprint"}:
        raise click.UsageError("--by is read from the certificate: give FILE.pem")
    if certificate is not None:
        criterion = _criteria(certificate, criteria)
    else:
        criterion = {"fingerprint": _fingerprint(str(fingerprint), "--fingerprint")}
    binding = {**criterion, **_window(certificate, begin, end), "chargePointId": charge_point_id}
    change = {"certificate": binding, "audit": audit}
    identity = client.change("identities", charge_point_id, "certificates", body=change)
    if as_json:
        print_json(identity)
    else:
        shown = {} if certificate is None else _shown(certificate)
        print_fields([("station", charge_point_id), *(shown | criterion | _shown_window(binding)).items()])
    _warn(binding)


@click.command("revoke-cert")
@click.argument("which", metavar="FINGERPRINT|FILE.pem")
@click.option("--json", "as_json", is_flag=True, help="Print the denylist's entry as one JSON object.")
@with_audit
@with_client
def revoke_cert(client: OperationsClient, *, which: str, as_json: bool, audit: Mapping[str, str]) -> None:
    """Put a certificate on the denylist. Nobody gets in with it any more, and a connection by it is closed (1008).

    \b
    ocppgw revoke-cert CP-001.pem --reason "key compromised"
    ocppgw revoke-cert AA:BB:CC:...

    The fingerprint is SHA-256, as `openssl x509 -noout -fingerprint -sha256` prints it.

    \b
    Exit code: 0 revoked, 1 refused by the gateway or the gateway is not reachable,
    2 wrong usage or a certificate that can't be used.
    """
    if Path(which).is_file():
        certificate = _station_certificate(which)
        fingerprint, shown = certificate.fingerprint, _shown(certificate)
        del shown["fingerprint"]
    else:
        fingerprint, shown = _fingerprint(which, "FINGERPRINT|FILE.pem"), {}
    entry = client.change("revocations", body={"fingerprint": fingerprint, "audit": audit})
    if as_json:
        print_json(entry)
    else:
        print_fields([("revoked", fingerprint), *shown.items()])


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@with_client
def revocations(client: OperationsClient, as_json: bool) -> None:
    """List the certificates on the denylist, newest first.

    \b
    ocppgw revocations

    Exit code: 0 done, 1 refused by the gateway or the gateway is not reachable, 2 wrong usage.
    """
    found = client.get("revocations")["revocations"]
    if as_json:
        print_json(found)
    elif found:
        rows = ([row.get(name) for name in ("fingerprint", "revokedAt", "actorId", "reason")] for row in found)
        print_table(("FINGERPRINT", "REVOKED", "BY", "REASON"), rows)
    else:
        note("No certificate is revoked here (those in a CRL are the CA's).")


def _station_certificate(file: str) -> ClientCertificate:
    """The first certificate of a PEM file: the station's own, before those of the CAs above it."""
    try:
        certificate = parse_certificates(read_file(file), file)[0]
    except PkiError as error:
        raise BadInput(f"{error.args[0]}\n{error.hint}") from None
    if _is_ca(certificate):
        hint = "a binding is for the station's own certificate, which comes first in a chain file"
        raise BadInput(f"the first certificate in {file} is that of a CA\n{hint}")
    return read_certificate(certificate.public_bytes(Encoding.DER))


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _criteria(certificate: ClientCertificate, wanted: tuple[str, ...]) -> dict[str, str]:
    known = {
        "fingerprint": ("fingerprint", certificate.fingerprint),
        "subject": ("subject", certificate.subject),
        "san": ("subjectAltName", ",".join(certificate.names)),
        "serial": ("serialNumber", certificate.serial_number),
    }
    for name in wanted:
        if not known[name][1]:
            raise click.BadParameter(f"the certificate has no {known[name][0]}: take another one", param_hint="--by")
    return dict(known[name] for name in dict.fromkeys(wanted))


def _fingerprint(text: str, hint: str) -> str:
    try:
        return normal_fingerprint(text)
    except ValueError as error:
        what = "is no file, and " if hint.startswith("FINGERPRINT") else ""
        raise click.BadParameter(f"{what}{error}", param_hint=hint) from None


def _window(certificate: ClientCertificate | None, begin: str | None, end: str | None) -> dict[str, str]:
    own = {} if certificate is None else {"validFrom": certificate.not_before, "validTo": certificate.not_after}
    window = {name: _time_text(at) for name, at in own.items()}
    for name, text, option in (("validFrom", begin, "--from"), ("validTo", end, "--to")):
        if text == NEVER:
            window.pop(name, None)
        elif text is not None:
            window[name] = _time(text, option)
    if len(window) > 1 and _moment(window["validFrom"]) >= _moment(window["validTo"]):
        raise click.UsageError(f"the binding would end ({window['validTo']}) before it begins ({window['validFrom']})")
    return window


def _time(text: str, option: str) -> str:
    try:
        if datetime.fromisoformat(text).tzinfo is not None:
            return text
    except ValueError:
        pass
    hint = 'must be a time with its zone, such as 2027-01-01T00:00:00Z, or "none"'
    raise click.BadParameter(hint, param_hint=option)


def _time_text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _shown(certificate: ClientCertificate) -> dict[str, Any]:
    return {
        "subject": certificate.subject,
        "serial number": certificate.serial_number,
        "fingerprint": certificate.fingerprint,
        "valid until": _time_text(certificate.not_after),
    }


def _shown_window(binding: Mapping[str, str]) -> dict[str, str]:
    return {"bound from": binding.get("validFrom", "now"), "bound until": binding.get("validTo", "revoked or removed")}


def _warn(binding: Mapping[str, str]) -> None:
    if "validTo" in binding and _moment(binding["validTo"]) <= time.time():
        note("Warning: this binding is over already, so the station is refused with it: see --to.")
