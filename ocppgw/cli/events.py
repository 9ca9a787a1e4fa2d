"""`ocppgw events`: the journal, once or for ever."""

import time
from collections.abc import Iterator
from typing import Any

import click
import orjson

from ocppgw.cli.client import NotReachable, OperationsClient, Refused
from ocppgw.cli.connection import with_client
from ocppgw.cli.output import print_json, print_line

PAGE = 1000
LAST = -20
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)  # the last one again and again
MAX_PAYLOAD = 300  # characters of a payload in a line for people


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with new events as they come, until Ctrl-C.")
@click.option(
    "--since",
    type=int,
    help="Start after this cursor; 0: the beginning; -N: N before the end.  [default: -20; with --follow: the end]",
)
@click.option("--topic", help="Only events of this topic, e.g. ocpp.session.events.")
@click.option("--station", metavar="ID", help="Only events of this station.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: {cursor, topic, key, event}.")
@with_client
def events(
    client: OperationsClient, *, follow: bool, since: int | None, topic: str | None, station: str | None, as_json: bool
) -> None:
    """Show events from the gateway's journal, oldest first.

    \b
    ocppgw events
    ocppgw events --follow --station CP-001
    ocppgw events --since 0 --json > all-events.ndjson

    --follow survives restarts of the gateway: it goes on where it was.
    """
    wanted = {"topic": topic, "chargePointId": station}
    rows = _endless(client, since, wanted) if follow else _stored(client, LAST if since is None else since, wanted)
    show = print_json if as_json else _show
    for row in rows:
        show(row)


def _stored(client: OperationsClient, since: int, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is there now; what comes meanwhile is left alone, so that this ends."""
    end = None
    while True:
        page = client.get("events", since=since, limit=PAGE, **wanted)
        end = page["last"] if end is None else end
        yield from (row for row in page["events"] if row["cursor"] <= end)
        if page["next"] >= end or page["next"] == since:
            return
        since = page["next"]


def _endless(client: OperationsClient, since: int | None, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The stream, taken up again at the last cursor whenever it breaks. A gateway that isn't there at first raises."""
    stream = client.follow(since=since, **wanted)
    while True:
        cursor = stream.cursor
        try:
            for line in stream:
                row = orjson.loads(line)
                cursor = row["cursor"]
                yield row
        except OSError:
            pass  # said below, as for a stream that was ended properly
        click.echo("The gateway is gone; waiting for it to come back…", err=True)
        stream = _reconnected(client, cursor, wanted)


def _reconnected(client: OperationsClient, cursor: int, wanted: dict[str, Any]) -> Any:
    attempt = 0
    while True:
        time.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
        attempt += 1
        try:
            stream = client.follow(since=cursor, **wanted)
        except NotReachable:
            continue
        except Refused as error:
            if error.code != "CursorBeyondEnd":
                raise
            click.echo("The gateway has a new journal; starting at its beginning.", err=True)
            cursor = 0
            continue
        click.echo(f"The gateway is back; going on after cursor {cursor}.", err=True)
        return stream


def _show(row: dict[str, Any]) -> None:
    event = row["event"]
    payload = event.get("payload")
    text = "" if payload is None else orjson.dumps(payload).decode()
    shown = text if len(text) <= MAX_PAYLOAD else text[:MAX_PAYLOAD] + "…"
    who = event.get("chargePointId") or event.get("stationId") or row["key"]
    print_line(str(row["cursor"]), event.get("occurredAt"), who, event.get("eventType"), shown)
