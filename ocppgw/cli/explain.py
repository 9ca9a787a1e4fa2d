"""`ocppgw explain`: why a station can't get in, in one sentence, and what its last attempts looked like."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import click
from rich.text import Text

from ocppgw.cli.attempts import Attempt, blocks, folded, is_guess, is_refused, when
from ocppgw.cli.client import OperationsClient, Refused
from ocppgw.cli.connection import with_client
from ocppgw.cli.output import print_block, print_json
from ocppgw.logs import printable

DEFAULT_LIMIT = 5
MAX_LIMIT = 200  # what the gateway gives
READ = 200  # attempts looked through: a station that tries again and again fills one line, not the screen
NOTHING_SEEN = "look at the URL in the station, at DNS, and at the firewalls between"


@click.command()
@click.argument("charge_point_id", metavar="[ID]", required=False)
@click.option("--address", metavar="IP", help="Attempts from this address, whoever it was.")
@click.option("--all", "is_all", is_flag=True, help="Attempts of all stations.")
@click.option("--refused", is_flag=True, help="Only attempts that were refused.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LIMIT),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="At most so many; repetitions count as one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print {summary, connected, identity, attempts} as one object.")
@with_client
def explain(
    client: OperationsClient,
    *,
    charge_point_id: str | None,
    address: str | None,
    is_all: bool,
    refused: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Say why a station can't connect. The first line tells its state and the remedy; below it come its last attempts,
    newest first.

    \b
    ocppgw explain CP-001
    ocppgw explain --address 192.0.2.7
    ocppgw explain --all --refused --limit 50

    Attempts that never got past TLS name no station. They are found by the certificate and by the address of the
    station's other attempts. --json gives attempts as they are, repetitions too.

    \b
    Exit code: 0 shown, 1 refused by the gateway or the gateway is not reachable,
    2 wrong usage.
    """
    if sum((charge_point_id is not None, address is not None, is_all)) != 1:
        raise click.UsageError("say whose attempts: ID, --address or --all")
    # A station's state depends on all its attempts, whichever are to be shown.
    is_filtered = "true" if refused and charge_point_id is None else None
    query = {"chargePointId": charge_point_id, "address": address, "refused": is_filtered}
    attempts = client.get("attempts", **query, limit=READ)["attempts"]
    if charge_point_id is None:
        state = {"summary": summary_of_many(attempts, f"From {address}" if address else "From all stations")}
    else:
        state = _state(client, charge_point_id, attempts)
    wanted = [attempt for attempt in attempts if is_refused(attempt) or not refused]
    if as_json:
        print_json({**state, "attempts": wanted[:limit]})
    else:
        print_block(Text(printable(state["summary"]), style="bold"), *blocks(folded(wanted)[:limit]))


def _state(client: OperationsClient, charge_point_id: str, attempts: Sequence[Attempt]) -> dict[str, Any]:
    station = _known(client, "stations", charge_point_id)
    identity = _known(client, "identities", charge_point_id)
    return {
        "summary": summary(charge_point_id, station, identity, attempts),
        "connected": _is_connected(station),
        "identity": None if identity is None else identity.get("status", "active"),
    }


def _known(client: OperationsClient, *path: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.get(*path)
    except Refused as error:
        if not error.code.startswith("Unknown"):
            raise
        return None
    return found


def _is_connected(station: Mapping[str, Any] | None) -> bool:
    return station is not None and bool(station.get("connected"))


def summary(
    name: str, station: Mapping[str, Any] | None, identity: Mapping[str, Any] | None, attempts: Sequence[Attempt]
) -> str:
    """The present state and, where something is wrong, the remedy, as one sentence."""
    if station is not None and _is_connected(station):
        return _connected(name, station, attempts)
    who = f"{name}{_flaw(identity)} is not connected"
    own = next((attempt for attempt in attempts if not is_guess(attempt)), None)
    guess = _later_guess(attempts)
    if own is not None and is_refused(own):
        also = f" (Later, from its address: {guess['outcome']}.)" if guess else ""
        return f"{who}; its last attempt was refused{_because(own)}{also}"
    left = "" if own is None else f"; it was let in last at {when(own['at'])}, and has left since"
    if guess is not None:
        return f"{who}{left}; an attempt from its address was refused{_because(guess)}"
    return f"{who}{left or ', and no attempt of it is on record'}: {_mend(name, identity, was_in=own is not None)}."


def _later_guess(attempts: Sequence[Attempt]) -> Attempt | None:
    """The newest refusal that only the address speaks for, unless the station itself came after it."""
    later = takewhile(is_guess, attempts)
    return next(filter(is_refused, later), None)


def _mend(name: str, identity: Mapping[str, Any] | None, *, was_in: bool) -> str:
    if identity is not None and identity.get("status") == "disabled":
        return f"ocppgw enable {name} lets it in again"
    if was_in:
        return f"look at its link, and at ocppgw events --station {name}"
    return NOTHING_SEEN if identity is not None else f"provision it (ocppgw provision); then {NOTHING_SEEN}"


def _connected(name: str, station: Mapping[str, Any], attempts: Sequence[Attempt]) -> str:
    details = [f"by {station['ocppVersion']}" if station.get("ocppVersion") else ""]
    details += [f"from {station['address']}" if station.get("address") else ""]
    details += [f"since {when(station['connectedAt'])}" if station.get("connectedAt") else ""]
    state = " ".join(filter(None, [f"{name} is connected", *details]))
    since = str(station.get("connectedAt", ""))
    later = [one for one in attempts if is_refused(one) and not is_guess(one) and str(one["at"]) > since]
    return f"{state}; an attempt after that was refused{_because(later[0])}" if later else f"{state}."


def _flaw(identity: Mapping[str, Any] | None) -> str:
    if identity is None:
        return " has no identity here and"
    return " is disabled and" if identity.get("status") == "disabled" else ""


def _because(attempt: Attempt) -> str:
    remedy = attempt.get("remedy") or attempt.get("detail") or ""
    return f" ({attempt['outcome']}): {remedy}" if remedy else f" ({attempt['outcome']})."


def summary_of_many(attempts: Sequence[Attempt], whose: str) -> str:
    """The same for attempts of several stations."""
    if not attempts:
        return f"{whose} no attempt is on record: {NOTHING_SEEN}."
    refused = [attempt for attempt in attempts if is_refused(attempt)]
    count = f"{len(attempts)} attempt{'s' if len(attempts) > 1 else ''}"
    if not refused:
        return f"{whose} {count}, none refused."
    return f"{whose} {count}, {len(refused)} refused; the last of these{_because(refused[0])}"
