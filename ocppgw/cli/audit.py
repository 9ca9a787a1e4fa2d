"""--actor-id, --actor-type, --actor-ip and --reason: who changes a station's rights and why, for the audit events."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from ocppgw.access.addresses import parse_address

MAX_LENGTH = 255
MAX_REASON = 255


def with_audit(function: Callable[..., None]) -> Callable[..., None]:
    """Pass `audit`: the JSON object that every change is sent with. What is not given is left to the gateway."""

    @click.option(
        "--actor-id",
        envvar="PROVISION_ACTOR_ID",
        default="unknown",
        show_default=True,
        help="Who does this, for the audit event. [PROVISION_ACTOR_ID]",
    )
    @click.option(
        "--actor-type",
        envvar="PROVISION_ACTOR_TYPE",
        default="system",
        show_default=True,
        help="What kind of actor that is. [PROVISION_ACTOR_TYPE]",
    )
    @click.option(
        "--actor-ip",
        envvar="PROVISION_ACTOR_IP",
        help="The actor's address; without it, that of this command's connection. [PROVISION_ACTOR_IP]",
    )
    @click.option(
        "--reason",
        envvar="PROVISION_REASON",
        default="manual-provision",
        show_default=True,
        help="Why it is done. [PROVISION_REASON]",
    )
    @wraps(function)
    def wrapped(
        *arguments: Any, actor_id: str, actor_type: str, actor_ip: str | None, reason: str, **options: Any
    ) -> None:
        audit = {
            "actorId": _text(actor_id, "--actor-id", MAX_LENGTH),
            "actorType": _text(actor_type, "--actor-type", MAX_LENGTH),
            "reason": _text(reason, "--reason", MAX_REASON),
        }
        if actor_ip:
            audit["ip"] = _address(actor_ip)
        function(*arguments, audit=audit, **options)

    return wrapped


def _text(value: str, option: str, longest: int) -> str:
    if not value.strip() or not value.isprintable() or len(value) > longest:
        raise click.BadParameter(f"must be 1 to {longest} printable characters", param_hint=option)
    return value


def _address(value: str) -> str:
    address = parse_address(value)
    if address is None:
        raise click.BadParameter("must be an IP address, such as 192.0.2.7", param_hint="--actor-ip")
    return str(address)
