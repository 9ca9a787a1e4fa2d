"""`ocppgw rotate-secret`: a new password or token for a station, without locking it out."""

from collections.abc import Mapping

import click

from ocppgw.cli.audit import with_audit
from ocppgw.cli.client import OperationsClient
from ocppgw.cli.connection import with_client
from ocppgw.cli.hashing import Hasher, with_hasher
from ocppgw.cli.new_secrets import NewSecret, from_stdin, generate, shortness
from ocppgw.cli.output import note, print_fields, print_json


@click.command("rotate-secret")
@click.argument("charge_point_id", metavar="ID")
@click.option("--generate", "is_made", is_flag=True, help="Make the new secret, and show it once.")
@click.option("--stdin", "is_read", is_flag=True, help="Read it from standard input (one line, or asked for).")
@click.option("--hex", "is_hex", is_flag=True, help="What is read is hex digits of the octets (1.6 AuthorizationKey).")
@click.option("--token", "is_token", is_flag=True, help="The token, not the password.")
@click.option("--immediately", is_flag=True, help="Only the new one from now on; a connection by the old one is cut.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print {chargePointId, immediately, secret?, token?} as one object."
)
@with_hasher
@with_audit
@with_client
def rotate_secret(
    client: OperationsClient,
    *,
    charge_point_id: str,
    is_made: bool,
    is_read: bool,
    is_hex: bool,
    is_token: bool,
    immediately: bool,
    as_json: bool,
    hasher: Hasher,
    audit: Mapping[str, str],
) -> None:
    """Give a station a new password or token. Old and new both work until the station first uses the new one.

    \b
    ocppgw rotate-secret CP-001 --generate
    ocppgw rotate-secret CP-001 --stdin < new-password
    ocppgw rotate-secret CP-001 --token --generate --immediately

    Rotate first, then set the secret in the station: whichever it sends meanwhile, it is let in.

    \b
    Exit code: 0 done, 1 refused by the gateway or the gateway is not reachable,
    2 wrong usage.
    """
    if is_made == is_read:
        raise click.UsageError("say where the new secret comes from: --generate or --stdin")
    if is_hex and (is_made or is_token):
        raise click.UsageError("--hex is about a password from --stdin")
    kind = "token" if is_token else "secret"
    new = generate(kind) if is_made else from_stdin(kind, is_hex=is_hex)
    hashed = hasher.new(new.octets)
    change = {"kind": kind, "hash": hashed.digits, "salt": hashed.salt, "algorithm": hashed.algorithm}
    body = {**change, "immediately": immediately, "audit": audit}
    client.change("identities", charge_point_id, "rotate-secret", body=body)
    _show(charge_point_id, new, immediately, as_json)


def _show(charge_point_id: str, new: NewSecret, immediately: bool, as_json: bool) -> None:
    shown = new.shown()
    if as_json:
        print_json({"chargePointId": charge_point_id, "immediately": immediately, **shown})
    else:
        works = "the new one only" if immediately else "old and new, until the new one is first used"
        print_fields([("station", charge_point_id), ("works", works), *shown.items()])
    if new.kind == "secret" and shortness(new.octets):
        note(f"Warning: the secret {shortness(new.octets)}")
    for text in new.notes():
        note(text)
