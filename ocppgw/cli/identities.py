"""`ocppgw list`, `show`, `enable`, `disable` and `delete`: the stored identities. Secrets never come here: the gateway
masks them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from ocppgw.cli.audit import with_audit
from ocppgw.cli.client import OperationsClient
from ocppgw.cli.connection import with_client
from ocppgw.cli.documents import is_terminal
from ocppgw.cli.output import note, print_fields, print_json, print_table

PAGE = 500
_COLUMNS = ("STATION", "STATUS", "PROOF", "VERSIONS", "CERTIFICATES", "TENANT", "STATION ID")


def _found(client: OperationsClient, search: str | None) -> Iterator[dict[str, Any]]:
    offset = 0
    while True:
        page = client.get("identities", search=search, offset=offset, limit=PAGE)
        yield from page["identities"]
        offset += PAGE
        if offset >= page["total"]:
            return


@click.command("list")
@click.option("--search", metavar="TEXT", help="Only identities with this text in id, station id or tenant id.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@with_client
def list_identities(client: OperationsClient, search: str | None, as_json: bool) -> None:
    """List the stored identities. (ocppgw stations lists who was ever connected.)

    \b
    ocppgw list
    ocppgw list --search acme --json

    \b
    Exit code: 0 done, 1 refused by the gateway or the gateway is not reachable,
    2 wrong usage.
    """
    found = list(_found(client, search))
    if as_json:
        print_json(found)
    elif found:
        print_table(_COLUMNS, map(_row, found))
    else:
        note("No identities." if not search else "No such identities.")


@click.command()
@click.argument("charge_point_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the identity as one JSON object.")
@with_client
def show(client: OperationsClient, charge_point_id: str, as_json: bool) -> None:
    """Show a station's identity; secrets are masked.

    \b
    ocppgw show CP-001
    ocppgw show CP-001 --json

    \b
    Exit code: 0 done, 1 refused by the gateway or the gateway is not reachable,
    2 wrong usage.
    """
    identity = client.get("identities", charge_point_id)
    if as_json:
        print_json(identity)
    else:
        print_fields(_fields(identity, time.time()))


@click.command()
@click.argument("charge_point_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the identity as one JSON object.")
@with_audit
@with_client
def enable(client: OperationsClient, charge_point_id: str, as_json: bool, audit: Mapping[str, str]) -> None:
    """Let a disabled station in again.

    \b
    ocppgw enable CP-001

    \b
    Exit code: 0 done, 1 refused by the gateway or the gateway is not reachable,
    2 wrong usage.
    """
    _switch(client, charge_point_id, "enable", as_json, audit)


@click.command()
@click.argument("charge_point_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the identity as one JSON object.")
@with_audit
@with_client
def disable(client: OperationsClient, charge_point_id: str, as_json: bool, audit: Mapping[str, str]) -> None:
    """Keep a station out until it is enabled. Its connection, if it has one, is closed (1008).

    \b
    ocppgw disable CP-001 --reason stolen

    \b
    Exit code: 0 done, 1 refused by the gateway or the gateway is not reachable,
    2 wrong usage.
    """
    _switch(client, charge_point_id, "disable", as_json, audit)


@click.command()
@click.argument("charge_point_id", metavar="ID")
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@click.option("--json", "as_json", is_flag=True, help="Print {deleted} as one JSON object.")
@with_audit
@with_client
def delete(client: OperationsClient, charge_point_id: str, yes: bool, as_json: bool, audit: Mapping[str, str]) -> None:
    """Delete a station's identity. Secrets, bindings and what is known of its security profile are gone. Its
    connection, if it has one, is closed (1008).

    \b
    ocppgw delete CP-001
    ocppgw delete CP-001 --yes --reason scrapped

    To keep a station out for a while, there is ocppgw disable.

    \b
    Exit code: 0 deleted, 1 refused by the gateway, not reachable or answered with no,
    2 wrong usage.
    """
    if not yes:
        _confirm(charge_point_id)
    answer = client.change("identities", charge_point_id, "delete", body={"audit": audit})
    if as_json:
        print_json(answer)
    else:
        print_fields([("station", charge_point_id), ("identity", "deleted")])


def _confirm(charge_point_id: str) -> None:
    if not is_terminal():
        raise click.UsageError("nobody is there to be asked: --yes deletes without asking")
    click.confirm(f"Delete the identity of {charge_point_id}? Its secrets can't be brought back", abort=True, err=True)


def _switch(client: OperationsClient, charge_point_id: str, verb: str, as_json: bool, audit: Mapping[str, str]) -> None:
    identity = client.change("identities", charge_point_id, verb, body={"audit": audit})
    if as_json:
        print_json(identity)
    else:
        print_fields([("station", charge_point_id), ("status", identity.get("status", f"{verb}d"))])


def _row(identity: Mapping[str, Any]) -> list[Any]:
    auth = _auth(identity)
    return [
        identity.get("chargePointId"),
        identity.get("status", "active"),
        _proof(auth),
        ", ".join(identity.get("allowedProtocols") or ["all"]),
        len(auth.get("certificates") or ()) or None,
        identity.get("tenantId"),
        identity.get("stationId"),
    ]


def _auth(identity: Mapping[str, Any]) -> Mapping[str, Any]:
    auth = identity.get("auth")
    return auth if isinstance(auth, Mapping) else {}


def _proof(auth: Mapping[str, Any]) -> str:
    return ", ".join(auth.get("allowedTypes") or [auth.get("type") or "the gateway's default"])


def _fields(identity: Mapping[str, Any], now: float) -> Iterator[tuple[str, Any]]:
    auth = _auth(identity)
    yield "station", identity.get("chargePointId")
    yield "status", identity.get("status", "active")
    yield "connected", identity.get("connected")
    yield "highest profile", _profile(identity, auth)
    yield "station id", identity.get("stationId")
    yield "tenant id", identity.get("tenantId")
    yield "versions", ", ".join(identity.get("allowedProtocols") or ["all"])
    yield "addresses", ", ".join([*identity.get("allowedIps", []), *identity.get("allowedCidrs", [])]) or "any"
    yield "proof", _proof(auth)
    yield from _secrets(auth)
    for member, name in (("certificates", "certificate"), ("pendingCertificates", "pending certificate")):
        for binding in _objects(auth.get(member)):
            yield from _binding(name, binding, now)
    for fingerprint in auth.get("revokedFingerprints") or ():
        yield "revoked", fingerprint
    yield from _rest(identity, auth)


def _profile(identity: Mapping[str, Any], auth: Mapping[str, Any]) -> str:
    highest, lowest = identity.get("securityProfile"), auth.get("lowestProfile")
    shown = f"{highest}" if highest else "none yet"
    return shown if lowest is None else f"{shown}; may fall back to {lowest}"


def _secrets(auth: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    user = auth.get("username")
    if user:
        yield "user name", user
    for name, kind in (("Secret", "password"), ("Token", "token")):
        stored, following = f"{name.lower()}Hash" in auth, f"next{name}Hash" in auth
        if stored or following:
            waiting = "; a new one waits for its first use" if following else ""
            yield kind, f"{'set' if stored else 'not set'}{waiting}"


def _binding(name: str, binding: Mapping[str, Any], now: float) -> Iterator[tuple[str, Any]]:
    """Whether it holds now, its window, and what it fits: any one of these."""
    window = f"from {binding.get('validFrom', 'the beginning')} to {binding.get('validTo', 'the end of time')}"
    yield name, f"{_state(binding, now)}, {window}"
    for criterion in ("fingerprint", "subject", "subjectAltName", "serialNumber"):
        if binding.get(criterion):
            yield f"  {criterion}", binding[criterion]


def _state(binding: Mapping[str, Any], now: float) -> str:
    begin, end = _seconds(binding.get("validFrom")), _seconds(binding.get("validTo"))
    if binding.get("status") == "revoked":
        return "revoked"
    if begin is not None and now < begin:
        return "not yet"
    return "over" if end is not None and now > end else "good"


def _seconds(text: object) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
    except ValueError:
        return None


def _objects(value: object) -> Sequence[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else ()


_TOLD = frozenset(
    {"chargePointId", "status", "connected", "securityProfile", "stationId", "tenantId", "allowedProtocols"}
    | {"allowedIps", "allowedCidrs", "auth"}
)
_TOLD_OF_AUTH = frozenset(
    {"type", "allowedTypes", "username", "certificates", "pendingCertificates", "revokedFingerprints", "lowestProfile"}
)


def _rest(identity: Mapping[str, Any], auth: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What else is there, other programs' members too."""
    hidden = ("Hash", "Salt", "Algorithm")
    yield from (
        (f"auth.{name}", auth[name]) for name in auth if name not in _TOLD_OF_AUTH and not name.endswith(hidden)
    )
    yield from ((name, value) for name, value in identity.items() if name not in _TOLD)
