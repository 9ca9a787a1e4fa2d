"""`ocppgw stations` and `ocppgw station ID`."""

from collections.abc import Iterator
from typing import Any

import click

from ocppgw.cli.client import OperationsClient
from ocppgw.cli.connection import with_client
from ocppgw.cli.output import print_fields, print_json, print_table

PAGE = 1000
_COLUMNS = {
    "STATION": "chargePointId",
    "CONNECTED": "connected",
    "VERSION": "ocppVersion",
    "BOOT": "bootStatus",
    "VENDOR": "vendor",
    "MODEL": "model",
    "TENANT": "tenantId",
    "TRANSACTIONS": "transactions",
    "LAST SEEN": "lastSeenAt",
}


@click.command()
@click.option("--connected", is_flag=True, help="Only stations that are connected now.")
@click.option("--version", metavar="VERSION", help="Only stations of this OCPP version: 1.6, 2.0.1 or 2.1.")
@click.option("--search", metavar="TEXT", help="Only stations with this text in id, tenant, vendor, model or address.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@with_client
def stations(
    client: OperationsClient, *, connected: bool, version: str | None, search: str | None, as_json: bool
) -> None:
    """List the stations the gateway knows.

    \b
    ocppgw stations --connected
    ocppgw stations --version 2.0.1 --json
    """
    query = {"connected": "true" if connected else None, "version": version, "search": search}
    rows = list(_pages(client, query))
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(_COLUMNS), ([row.get(name) for name in _COLUMNS.values()] for row in rows))
    else:
        click.echo("No stations." if not any(query.values()) else "No such stations.", err=True)


def _pages(client: OperationsClient, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    offset = 0
    while True:
        page = client.get("stations", **query, limit=PAGE, offset=offset)
        yield from page["stations"]
        offset += PAGE
        if offset >= page["total"]:
            return


@click.command()
@click.argument("station_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@with_client
def station(client: OperationsClient, station_id: str, as_json: bool) -> None:
    """Show one station: connection, boot data, connectors, open transactions.

    \b
    ocppgw station CP-001
    """
    details = client.get("stations", station_id)
    if as_json:
        print_json(details)
    else:
        print_fields(_flat(details))


def _flat(details: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Members in their order; those of an object one by one, with their path as name."""
    for name, value in details.items():
        if isinstance(value, dict) and value:
            yield from ((f"{name}.{inner}", inner_value) for inner, inner_value in _flat(value))
        else:
            yield name, value if value != [] else None
