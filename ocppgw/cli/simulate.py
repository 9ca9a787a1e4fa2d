"""`ocppgw simulate`: a fleet of stations against any CSMS, with one live line about it."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ocppgw.cli.connection import INTERRUPTED
from ocppgw.errors import ConfigError
from ocppgw.logs import printable
from ocppgw.simulator import FleetSnapshot, SimulatorOptions, run
from ocppgw.simulator.options import MIXED, VERSIONS

PASSWORD_VARIABLE = "OCPPGW_SIMULATOR_PASSWORD"  # noqa: S105
CERTIFICATE_OF_EACH = "{id}.pem"  # in a folder given as --cert
PLAIN_EVERY = 10  # snapshots come once a second; off a terminal each tenth is a line

Report = Callable[[FleetSnapshot], None]


@click.command()
@click.option("--url", default="ws://127.0.0.1:8080/ocpp", show_default=True, help="Endpoint without the station id.")
@click.option(
    "--version", type=click.Choice([*VERSIONS, MIXED]), default=MIXED, show_default=True, help="OCPP version."
)
@click.option("--count", type=int, default=10, show_default=True, help="Number of stations.")
@click.option("--prefix", default="SIM-", show_default=True, help="Ids are this and a number.")
@click.option("--speed", type=float, default=1.0, show_default=True, help="Time factor of people and cars.")
@click.option("--sessions", type=int, help="Charging sessions per station, then it leaves.  [default: no end]")
@click.option("--duration", type=float, metavar="SECONDS", help="Stop after this time.  [default: no end]")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same fleet.")
@click.option(
    "--ramp", "ramp_per_second", type=float, default=20.0, show_default=True, help="Stations connected a second."
)
@click.option("--heartbeat/--no-heartbeat", default=True, show_default=True, help="Send heartbeats.")
@click.option("--compression", is_flag=True, help="Offer permessage-deflate.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"File with the HTTP Basic password of all stations; without it, {PASSWORD_VARIABLE} is used.",
)
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file of the CAs that a wss:// server's certificate may come from.  [default: the system's]",
)
@click.option(
    "--cert",
    metavar="FILE|FOLDER",
    help="Client certificate of all stations, or one for each: a name with {id} in it, or a folder of {id}.pem.",
)
@click.option("--key", metavar="FILE", help="Its key, with {id} too.  [default: in the certificate's file]")
def simulate(password_file: Path | None, cert: str | None, **values: Any) -> None:
    """Simulate charging stations: they boot, charge cars, send meter values, and answer every command.

    \b
    ocppgw simulate --count 50 --version 2.0.1
    ocppgw simulate --url wss://csms.example/ocpp --sessions 1 --password-file secret.txt
    ocppgw simulate --url wss://localhost:8080/ocpp --ca-file var/pki/ca/root.pem --cert var/pki/stations

    Exit code: 0 done, 1 not one call was answered, 130 ended by Ctrl-C (all connections are closed then, too).
    """
    try:
        options = SimulatorOptions(**values, password=_password(password_file), certificate=_certificate(cert))
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    sys.exit(run_fleet(options, default_reactor))


def _password(password_file: Path | None) -> str | None:
    """From the file or the environment, never from the command line: others can read that."""
    if password_file is None:
        return os.environ.get(PASSWORD_VARIABLE) or None
    password = password_file.read_text().rstrip("\r\n")
    if not password:
        raise click.BadParameter(f"{password_file} is empty", param_hint="--password-file")
    return password


def _certificate(given: str | None) -> str | None:
    """A folder stands for the certificates of all stations in it."""
    return str(Path(given) / CERTIFICATE_OF_EACH) if given is not None and Path(given).is_dir() else given


def run_fleet(options: SimulatorOptions, reactor: Any) -> int:
    """Run the fleet on `reactor` until it ends or Ctrl-C; returns the exit code."""
    with ExitStack() as stack:
        report = _live(stack) if sys.stdout.isatty() else _plain(PLAIN_EVERY)
        fleet = _Run(options, reactor, report)
        reactor.callWhenRunning(fleet.start)
        reactor.run()
    if fleet.failure is not None:
        raise click.ClickException(printable(fleet.failure.getErrorMessage()))
    return INTERRUPTED if fleet.interrupted else _summary(fleet.last)


def _summary(last: FleetSnapshot) -> int:
    click.echo(_line(last))
    if last.calls_answered:
        return 0
    trouble = last.last_errors[-1] if last.last_errors else "there was no time for it"
    click.echo(f"Error: not one call was answered; {printable(trouble)}", err=True)
    return 1


class _Run:
    """One run of a fleet: ends the reactor when it is over, and is ended with the reactor on Ctrl-C."""

    def __init__(self, options: SimulatorOptions, reactor: Any, report: Report) -> None:
        self._options, self._reactor, self._report = options, reactor, report
        self._running: Deferred[None] | None = None
        self._over = False
        self.last = FleetSnapshot()
        self.failure: Failure | None = None
        self.interrupted = False

    def start(self) -> None:
        running = Deferred.fromCoroutine(run(self._options, self._reactor, self._report))
        self._running = running.addCallbacks(self._ended, self._failed).addBoth(self._stop)
        if not self._over:
            # Ctrl-C stops the reactor; the sockets are closed before it goes.
            self._reactor.addSystemEventTrigger("before", "shutdown", self._interrupt)

    def _ended(self, snapshot: FleetSnapshot) -> None:
        self.last = snapshot

    def _failed(self, failure: Failure) -> None:
        self.failure = failure

    def _stop(self, _result: None) -> None:
        self._over = True
        if not self.interrupted:
            self._reactor.stop()

    def _interrupt(self) -> "Deferred[None] | None":
        if self._over or self._running is None:
            return None
        self.interrupted = True
        self._running.cancel()
        return self._running


def _live(stack: ExitStack) -> Report:
    """One line that changes in place."""
    live = stack.enter_context(Live(console=Console(highlight=False), auto_refresh=False, transient=True))

    def report(snapshot: FleetSnapshot) -> None:
        text = Text(_line(snapshot), overflow="ellipsis", no_wrap=True)
        if snapshot.last_errors:
            text.append(f"\nlast trouble: {printable(snapshot.last_errors[-1])}", style="yellow")
        live.update(text, refresh=True)

    return report


def _plain(every: int) -> Report:
    """A line of its own for each `every`-th snapshot."""
    count = 0

    def report(snapshot: FleetSnapshot) -> None:
        nonlocal count
        if count % every == 0:
            click.echo(_line(snapshot))
            if snapshot.last_errors:
                click.echo(f"last trouble: {printable(snapshot.last_errors[-1])}", err=True)
        count += 1

    return report


def _line(at: FleetSnapshot) -> str:
    return (
        f"{at.connected}/{at.stations} connected, {at.booted} booted, {at.charging} charging, "
        f"{at.sessions_completed} sessions, {at.calls_answered}/{at.calls_sent} calls answered, "
        f"{at.call_errors} errors, {at.commands_answered} commands, {at.reconnects} reconnects"
    )
