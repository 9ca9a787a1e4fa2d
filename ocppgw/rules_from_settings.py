"""From the settings tree to the values that each room works with. Only the top row knows the tree."""

import json
import re
from pathlib import Path
from typing import Any

from ocppgw.access.addresses import parse_network
from ocppgw.access.admission import AdmissionRules
from ocppgw.access.identity import parse_identity
from ocppgw.config import Settings
from ocppgw.errors import ConfigError, OcppgwError
from ocppgw.net.websocket import WebSocketRules
from ocppgw.ocpp.answers import AnswerRules
from ocppgw.ocpp.session import SessionRules
from ocppgw.ocpp.versions import by_name
from ocppgw.routing.entrance import EntranceRules


def read_identities(settings: Settings, config_dir: Path) -> list[dict[str, Any]]:
    """The identity files (*.json) of `stations.identities_dir`. Errors: ConfigError naming every bad file."""
    if not settings.stations.identities_dir:
        return []
    folder = config_dir / settings.stations.identities_dir
    identities: list[dict[str, Any]] = []
    faults: list[str] = []
    for path in sorted(folder.glob("*.json")):
        try:
            identity = json.loads(path.read_bytes())
            parse_identity(identity)
            identities.append(identity)
        except (OSError, ValueError, OcppgwError) as error:
            faults.append(f"{path}: {error}")
    if faults:
        raise ConfigError("; ".join(faults), hint="mend or remove these identity files")
    return identities


def entrance_rules(settings: Settings) -> EntranceRules:
    stations, admission = settings.stations, settings.admission
    served = tuple(version for name in settings.ocpp.versions if (version := by_name(name)) is not None)
    return EntranceRules(
        AdmissionRules(
            id_pattern=re.compile(stations.id_pattern),
            allowed=tuple(parse_network(text) for text in (*admission.allowed_ips, *admission.allowed_cidrs)),
            versions=served,
        ),
        auth_mode=stations.auth_mode,
        unknown_tenant=stations.unknown_tenant if stations.unknown == "admit" else None,
        max_connections=settings.websocket.max_connections,
        swaps_per_minute=admission.swaps_per_minute,
        log_cooldown=admission.flood_log_cooldown_seconds,
    )


def session_rules(settings: Settings) -> SessionRules:
    ocpp, answers = settings.ocpp, settings.answers
    return SessionRules(
        answers=AnswerRules(
            heartbeat_interval=ocpp.heartbeat_interval_seconds,
            boot_retry_interval=ocpp.boot_retry_interval_seconds,
            id_token_status=answers.id_token_status,
            id_tokens=dict(answers.id_tokens),
            data_transfer_vendors=frozenset(answers.data_transfer_vendors),
        ),
        boot_status=ocpp.boot_status,
        assume_accepted=ocpp.assume_accepted,
        trigger_boot_when_rejected=ocpp.trigger_boot_when_rejected,
        unknown_type_error=ocpp.unknown_type_error,
        call_timeout=ocpp.call_timeout_seconds,
        commands_per_station=settings.commands.queue_per_station,
        pending_messages=ocpp.pending_message_limit,
        replay_seconds=ocpp.response_cache_ttl_seconds,
        bad_frames=ocpp.bad_frames_limit,
        bad_frames_seconds=ocpp.bad_frames_window_seconds,
    )


def websocket_rules(settings: Settings) -> WebSocketRules:
    websocket = settings.websocket
    return WebSocketRules(
        max_message_bytes=websocket.max_message_bytes,
        max_inflated_bytes=websocket.max_inflated_bytes,
        max_half_open=websocket.max_half_open,
        handshake_timeout=websocket.handshake_timeout_seconds,
        ping_interval=websocket.ping_interval_seconds,
        ping_misses=websocket.ping_misses,
        compression=websocket.compression,
        fast_lane=websocket.fast_lane,
        no_subprotocol_close=settings.ocpp.no_subprotocol_close,
    )
