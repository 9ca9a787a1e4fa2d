"""`ocppgw provision`: store one station's identity, from a file, from options, or from both."""

import os
from collections.abc import Mapping
from typing import Any

import click
import orjson

from ocppgw.access.identity import AUTH_TYPES
from ocppgw.cli.audit import with_audit
from ocppgw.cli.client import OperationsClient
from ocppgw.cli.connection import with_client
from ocppgw.cli.documents import FILE_OR_STDIN, STDIN, BadInput, file_name, read_file
from ocppgw.cli.drafts import Draft, faults, oddities, read_draft, sealed
from ocppgw.cli.hashing import Hasher, with_hasher
from ocppgw.cli.new_secrets import NewSecret, from_stdin, generate, usable
from ocppgw.cli.output import note, print_fields, print_json

_METHODS = {"secret": "basic", "token": "token"}
NOTHING = ""  # a method that only an identity without type and allowedTypes accepts
_MEND = (
    "A secret comes from auth.secret or auth.token in the file, from standard input (--secret-stdin, --token-stdin), "
    "or is made (--generate-secret, --generate-token)."
)


@click.command()
@click.argument("file", metavar="[FILE.json|-]", type=FILE_OR_STDIN, required=False)
@click.option("--id", "charge_point_id", metavar="ID", help="The station's id: the last part of its URL.")
@click.option("--station-id", metavar="ID", help="The backend's name for the station.")
@click.option("--tenant-id", metavar="ID", help="Whose station it is.")
@click.option("--protocol", "protocols", multiple=True, help="OCPP version it may use: 1.6, 2.0.1, 2.1; repeatable.")
@click.option(
    "--type",
    "types",
    type=click.Choice(AUTH_TYPES),
    multiple=True,
    help="How it proves itself; repeated: any of these, the first one first.",
)
@click.option("--secret-stdin", is_flag=True, help="Read its password from standard input (one line, or asked for).")
@click.option("--token-stdin", is_flag=True, help="Read its token in the same way.")
@click.option("--hex", "is_hex", is_flag=True, help="The password on standard input is hex digits of its octets (1.6).")
@click.option("--generate-secret", is_flag=True, help="Make a password of 20 letters and digits, and show it once.")
@click.option("--generate-token", is_flag=True, help="Make a token of 40 letters and digits, and show it once.")
@click.option("--json", "as_json", is_flag=True, help="Print {chargePointId, created, secret?, token?} as one object.")
@with_hasher
@with_audit
@with_client
def provision(
    client: OperationsClient,
    *,
    file: str | None,
    charge_point_id: str | None,
    station_id: str | None,
    tenant_id: str | None,
    protocols: tuple[str, ...],
    types: tuple[str, ...],
    secret_stdin: bool,
    token_stdin: bool,
    is_hex: bool,
    generate_secret: bool,
    generate_token: bool,
    as_json: bool,
    hasher: Hasher,
    audit: Mapping[str, str],
) -> None:
    """Store the identity of a station. One that is there already is replaced as a whole.

    \b
    ocppgw provision CP-001.json
    ocppgw provision CP-001.json --generate-secret
    ocppgw provision --id CP-001 --station-id s1 --tenant-id acme --generate-secret
    ocppgw provision --id CP-002 --station-id s2 --tenant-id acme --type mtls

    FILE is an identity as in schemas/identity.schema.json. A secret in it may be plain: auth.secret (a password),
    auth.secretHex (a 1.6 AuthorizationKey as hex digits) or auth.token. It is hashed here, and only the hash is sent.
    A secret is never taken from the command line. scrypt's parameters are OCPP_AUTH_SCRYPT_N, _R, _P and _KEYLEN: they
    must be the gateway's.

    Options win over the file, the file wins over the environment: PROVISION_ALLOWED_PROTOCOLS (separated by commas),
    PROVISION_AUTH_TYPE, PROVISION_SECRET and PROVISION_TOKEN fill in what the file leaves out. Without a file, a type
    that nobody names is that of the secret.

    \b
    Exit code: 0 stored, 1 refused by the gateway or the gateway is not reachable,
    2 wrong usage or an identity that can't be stored.
    """
    _check_options(file, secret_stdin, token_stdin, is_hex, generate_secret, generate_token)
    draft = read_draft(_document(file))
    wanted = {"chargePointId": charge_point_id, "stationId": station_id, "tenantId": tenant_id}
    draft.members |= {name: value for name, value in wanted.items() if value is not None}
    secrets = _secrets(secret_stdin, token_stdin, is_hex, generate_secret, generate_token)
    if draft.is_object:
        _complete(draft, protocols, types, secrets, is_file=file is not None)
    _check(draft, hasher, file)
    answer = client.change("identities", body={"identity": sealed(draft, hasher), "audit": audit})
    _show(draft, answer, secrets, as_json)


def _check_options(
    file: str | None, secret_stdin: bool, token_stdin: bool, is_hex: bool, generate_secret: bool, generate_token: bool
) -> None:
    if sum((secret_stdin, token_stdin, file == STDIN)) > 1:
        raise click.UsageError("standard input holds one thing: FILE -, --secret-stdin or --token-stdin")
    if (secret_stdin and generate_secret) or (token_stdin and generate_token):
        raise click.UsageError("give a secret or let one be made, not both")
    if is_hex and not secret_stdin:
        raise click.UsageError("--hex is about --secret-stdin: in a file, write auth.secretHex")


def _document(file: str | None) -> object:
    if file is None:
        return {}
    try:
        return orjson.loads(read_file(file))
    except orjson.JSONDecodeError as error:
        hint = "One identity is expected; for a file with one on each line there is ocppgw import."
        raise BadInput(f"{file_name(file)} is not JSON: {error}\n{hint}") from None


def _secrets(
    secret_stdin: bool, token_stdin: bool, is_hex: bool, generate_secret: bool, generate_token: bool
) -> list[NewSecret]:
    secrets = []
    if secret_stdin:
        secrets.append(from_stdin("secret", is_hex=is_hex))
    if token_stdin:
        secrets.append(from_stdin("token"))
    if generate_secret:
        secrets.append(generate("secret"))
    if generate_token:
        secrets.append(generate("token"))
    return secrets


def _complete(
    draft: Draft, protocols: tuple[str, ...], types: tuple[str, ...], secrets: list[NewSecret], *, is_file: bool
) -> None:
    """What options say, then what the file leaves to the environment."""
    is_bare = "auth" not in draft.members
    draft.members.setdefault("auth", {})
    _choose_protocols(draft, protocols)
    _set_types(draft, types or _types_from_environment(draft))
    _choose_secrets(draft, secrets)
    if is_file:
        if is_bare and not draft.auth and draft.secret is draft.token is None:
            del draft.members["auth"]  # nothing stands in for it: a slip
        return
    if draft.accepts(NOTHING):
        _set_types(draft, _types_of_secrets(draft))
    if draft.accepts(NOTHING):
        raise click.UsageError(f"say how the station proves itself: --type. {_MEND}")


def _choose_protocols(draft: Draft, protocols: tuple[str, ...]) -> None:
    if protocols:
        draft.members["allowedProtocols"] = list(protocols)
    elif "allowedProtocols" not in draft.members and (given := _environment("PROVISION_ALLOWED_PROTOCOLS")):
        draft.members["allowedProtocols"] = [name.strip() for name in given.split(",") if name.strip()]


def _choose_secrets(draft: Draft, secrets: list[NewSecret]) -> None:
    for new in secrets:
        if new.kind == "token":
            draft.token = new.octets
        else:
            draft.secret = new.octets
    if draft.secret is None and "secretHash" not in draft.auth and draft.accepts("basic"):
        draft.secret = _from_environment("secret", "PROVISION_SECRET")
    if draft.token is None and "tokenHash" not in draft.auth and draft.accepts("token"):
        draft.token = _from_environment("token", "PROVISION_TOKEN")


def _set_types(draft: Draft, types: tuple[str, ...]) -> None:
    if types:
        draft.auth["type"] = types[0]
        draft.auth.pop("allowedTypes", None)
    if len(types) > 1:
        draft.auth["allowedTypes"] = list(dict.fromkeys(types))


def _types_from_environment(draft: Draft) -> tuple[str, ...]:
    given = _environment("PROVISION_AUTH_TYPE").lower()
    if not given or not draft.accepts(NOTHING):
        return ()
    if given not in AUTH_TYPES:
        raise click.UsageError(f"PROVISION_AUTH_TYPE must be {', '.join(AUTH_TYPES[:-1])} or {AUTH_TYPES[-1]}")
    return (given,)


def _types_of_secrets(draft: Draft) -> tuple[str, ...]:
    found = (("basic", draft.secret), ("token", draft.token))
    return tuple(name for name, secret in found if secret is not None)


def _environment(name: str) -> str:
    return os.environ.get(name, "").strip()


def _from_environment(kind: str, name: str) -> bytes | None:
    text = os.environ.get(name)
    return usable(kind, os.fsencode(text), name) if text else None


def _check(draft: Draft, hasher: Hasher, file: str | None) -> None:
    for oddity in oddities(draft):
        note(f"Warning: {oddity}")
    problems = faults(draft, hasher)
    if not problems:
        return
    where = "" if file is None else f" in {file_name(file)}"
    lines = [f"the identity {draft.name or '(unnamed)'}{where} can't be stored:", *(f"  {one}" for one in problems)]
    if any("Hash is needed" in one for one in problems):
        lines.append(_MEND)
    if file is None:
        lines.append("Without a file, --id, --station-id and --tenant-id are needed.")
    raise BadInput("\n".join(lines))


def _show(draft: Draft, answer: Mapping[str, Any], secrets: list[NewSecret], as_json: bool) -> None:
    shown = {name: text for new in secrets for name, text in new.shown().items()}
    is_new = bool(answer.get("created"))
    if as_json:
        print_json({"chargePointId": draft.name, "created": is_new, **shown})
    else:
        print_fields([("station", draft.name), ("identity", "stored" if is_new else "replaced"), *shown.items()])
    for new in secrets:
        if not draft.accepts(_METHODS[new.kind]):
            note(f"Warning: the {new.kind} is stored, but the identity does not accept {_METHODS[new.kind]}.")
        for text in new.notes():
            note(text)
    if draft.accepts("mtls") and not draft.auth.get("certificates") and draft.auth.get("type") == "mtls":
        note(f"No certificate is bound yet: ocppgw add-cert {draft.name} FILE.pem")
