"""`ocppgw command`: one command to one station, and its outcome as exit code."""

import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import orjson

from ocppgw.cli.client import NotReachable, OperationsClient
from ocppgw.cli.connection import with_client
from ocppgw.cli.output import print_fields, print_json

EXIT_CODES = {"Accepted": 0, "Rejected": 3, "Failed": 4, "Timeout": 5}
NOT_ENDED = 5
DEFAULT_SECONDS = 15.0  # the gateway's own time limit for a command that names none
GRACE_SECONDS = 5.0  # for commands of the same station that are ahead in the queue
MAX_SECONDS = 590.0


@click.command()
@click.argument("station_id", metavar="STATION")
@click.argument("command_type", metavar="COMMAND")
@click.option("--payload", metavar="JSON|@FILE|-", default=None, help="The payload: JSON, @FILE, or - for stdin.")
@click.option("--connector", type=click.IntRange(0), help="Connector id.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, MAX_SECONDS), help="Seconds the station has to answer. [default: 15]"
)
@click.option("--id", "command_id", metavar="COMMANDID", help="Command id; a repeated id shows the first one's record.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the outcome.")
@click.option("--json", "as_json", is_flag=True, help="Print the command's record as one JSON object.")
@with_client
def command(
    client: OperationsClient,
    *,
    station_id: str,
    command_type: str,
    payload: str | None,
    connector: int | None,
    timeout: float | None,
    command_id: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Send a station a command: any action of its OCPP version, or a version-neutral one (Reset, RemoteStart,
    RemoteStop, UnlockConnector, ChangeConfiguration, TriggerMessage, UpdateFirmware).

    \b
    ocppgw command CP-001 Reset --payload '{"type": "Soft"}'
    ocppgw command CP-001 RemoteStart --connector 1 --payload '{"idTag": "ABC123"}'
    ocppgw command CP-002 GetVariables --payload @variables.json --timeout 60

    \b
    Exit code: 0 accepted (or --no-wait: stored), 3 rejected, 4 failed, 5 no answer in time,
    2 wrong usage, 1 refused by the gateway or the gateway is not reachable.
    """
    request = {"commandId": command_id or str(uuid4()), "commandType": command_type, "chargePointId": station_id}
    optional = {"connectorId": connector, "payload": _payload(payload), "timeoutSec": timeout}
    request |= {name: value for name, value in optional.items() if value is not None}
    try:
        seconds = (timeout or DEFAULT_SECONDS) + GRACE_SECONDS if wait else 0.0
        record = client.post("commands", body=request, wait=seconds)
    except NotReachable as error:
        again = (
            f"If it was sent, repeating it with --id {request['commandId']} shows its outcome and sends nothing twice"
        )
        raise NotReachable(str(error.args[0]), hint=f"{error.hint}\n{again}") from error
    _show(record, as_json)
    if wait:
        _exit(record)


def _payload(text: str | None) -> Any:
    if text is None:
        return None
    try:
        payload = orjson.loads(_read(text))
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"can't be read: {error}", param_hint="--payload") from error
    except orjson.JSONDecodeError as error:
        hint = 'Mind the quotes of your shell: --payload \'{"type": "Soft"}\''
        raise click.BadParameter(f"is not JSON: {error}. {hint}", param_hint="--payload") from error
    if not isinstance(payload, dict):
        raise click.BadParameter("must be a JSON object", param_hint="--payload")
    return payload


def _read(text: str) -> str | bytes:
    if text == "-":
        return sys.stdin.read()
    return Path(text[1:]).read_bytes() if text.startswith("@") else text


def _show(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(record)
        return
    what = f"{record['commandType']} {record['chargePointId']}"
    names = ("status", "commandId", "outcome", "requestPayload", "responsePayload", "sentAt", "responseAt", "error")
    shown = [(name, record[name]) for name in names if record.get(name) is not None]
    print_fields([("command", what), *shown])


def _exit(record: dict[str, Any]) -> None:
    status = record["status"]
    if status not in EXIT_CODES:
        click.echo(f"Not ended yet: repeat with --id {record['commandId']} to see its outcome.", err=True)
    sys.exit(EXIT_CODES.get(status, NOT_ENDED))
