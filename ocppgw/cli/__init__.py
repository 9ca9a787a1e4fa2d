"""The command line: `ocppgw COMMAND`. Each command lives in a module of its own, loaded when it is used.

client.py      the operations HTTP, as a client;  connection.py --url, the token, and failures in the operator's words
output.py      tables for people, JSON for programs
audit.py       who changes a station's rights, and why
new_secrets.py secrets from standard input, or made here;  hashing.py     their hashes, which are all that is sent
drafts.py      identities before they are stored;  documents.py  files, or standard input
attempts.py    connection attempts, as `ocppgw explain` tells them
"""

from importlib import import_module
from typing import cast

import click

from ocppgw import __version__

COMMANDS = {
    "add-cert": "ocppgw.cli.bindings:add_cert",
    "check-config": "ocppgw.cli.check_config:check_config",
    "command": "ocppgw.cli.command:command",
    "delete": "ocppgw.cli.identities:delete",
    "disable": "ocppgw.cli.identities:disable",
    "enable": "ocppgw.cli.identities:enable",
    "events": "ocppgw.cli.events:events",
    "explain": "ocppgw.cli.explain:explain",
    "export": "ocppgw.cli.bulk:export",
    "import": "ocppgw.cli.bulk:import_identities",
    "list": "ocppgw.cli.identities:list_identities",
    "pki": "ocppgw.cli.pki:pki",
    "provision": "ocppgw.cli.provision:provision",
    "revocations": "ocppgw.cli.bindings:revocations",
    "revoke-cert": "ocppgw.cli.bindings:revoke_cert",
    "rotate-secret": "ocppgw.cli.rotate:rotate_secret",
    "show": "ocppgw.cli.identities:show",
    "simulate": "ocppgw.cli.simulate:simulate",
    "station": "ocppgw.cli.stations:station",
    "stations": "ocppgw.cli.stations:stations",
}


class _Commands(click.Group):
    """COMMANDS, imported on use: `ocppgw stations` needn't load Autobahn for the simulator."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        return cast(click.Command, getattr(import_module(module), attribute))


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ocppgw")
def main() -> None:
    """Look at a running OCPP gateway, send its stations commands, say who may connect and see why one can't, check its
    configuration, simulate stations.

    The gateway itself is started with `twistd ocppgw -c FILE`, or `make run`.
    """
