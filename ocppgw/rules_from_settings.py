"""From the settings tree to the values that each room works with. Only the top row knows the tree."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ocppgw.access.addresses import parse_network
from ocppgw.access.admission import AdmissionRules
from ocppgw.access.authenticate import Hashing
from ocppgw.access.certify import CertificateRules
from ocppgw.access.proxies import ProxyRules
from ocppgw.access.turnstile import TurnstileRules
from ocppgw.config import Settings
from ocppgw.config.quirk_files import pattern, read_quirks
from ocppgw.config.redis_settings import uses_tls
from ocppgw.config.rules import speaks_tls
from ocppgw.errors import ConfigError, OcppgwError
from ocppgw.net.kafka import KafkaSettings
from ocppgw.net.outgoing import TlsClient
from ocppgw.net.tls import TlsFiles
from ocppgw.net.websocket import WebSocketRules
from ocppgw.ocpp.answers import AnswerRules
from ocppgw.ocpp.quirks import Profile, QuirkBook
from ocppgw.ocpp.rules import SessionRules, SigningJudge
from ocppgw.ocpp.tokens import KnownToken, TokenBook, parse_tokens
from ocppgw.ocpp.versions import AUDIT, COMMAND, DEAD, SESSION, STATION, VERSIONS, by_name
from ocppgw.pki import Signer
from ocppgw.routing.decisions import DecisionRules
from ocppgw.routing.entrance import EntranceRules
from ocppgw.routing.proving import ProofRules
from ocppgw.routing.provisioning import check_identity

if TYPE_CHECKING:
    from ocppgw.net.redis import RedisSettings

DENIAL_QUANTUM = 0.1  # seconds: longer than a hash takes on an idle machine


def read_identities(settings: Settings, config_dir: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """The identity files (*.json) of `stations.identities_dir`: id to record and the file's digest. Reads disk.

    Errors: ConfigError naming every bad file.
    """
    if not settings.stations.identities_dir:
        return {}
    folder = config_dir / settings.stations.identities_dir
    if not folder.is_dir():  # no files would mean: forget all stations that came from one
        raise ConfigError(f"stations.identities_dir {folder} is not a folder", hint="create it, or mend the path")
    identities: dict[str, tuple[dict[str, Any], str]] = {}
    faults: list[str] = []
    for path in sorted(folder.glob("*.json")):
        try:
            text = path.read_bytes()
            identity = json.loads(text)
            name = check_identity(identity).charge_point_id
            if name in identities:
                faults.append(f"{path}: another file is for {name}, too")
            identities[name] = (identity, hashlib.sha256(text).hexdigest())
        except (OSError, ValueError, OcppgwError) as error:
            faults.append(f"{path}: {error}")
    if faults:
        raise ConfigError("; ".join(faults), hint="mend or remove these identity files")
    return identities


def entrance_rules(settings: Settings, quirks: QuirkBook | None = None) -> EntranceRules:
    stations, admission = settings.stations, settings.admission
    served = tuple(version for name in settings.ocpp.versions if (version := by_name(name)) is not None)
    return EntranceRules(
        AdmissionRules(
            id_pattern=re.compile(stations.id_pattern),
            allowed=tuple(parse_network(text) for text in (*admission.allowed_ips, *admission.allowed_cidrs)),
            versions=served,
            repairs_of=None if quirks is None else quirks.repairs_of,
        ),
        max_connections=settings.websocket.max_connections,
        swaps_per_minute=admission.swaps_per_minute,
        proxies=proxy_rules(settings),
        turnstile=TurnstileRules(
            max_connections=admission.max_connections_per_address,
            max_half_open=admission.max_half_open_per_address,
            handshakes_per_minute=admission.handshakes_per_minute_per_address,
            refusals_per_minute=admission.refusals_per_minute_per_address,
        ),
        min_profile=admission.min_security_profile,
        denial_quantum=DENIAL_QUANTUM,
        decides=settings.decisions.enabled,
        decided=frozenset(settings.decisions.backend),
        decided_of_tenants={name: frozenset(actions) for name, actions in settings.decisions.tenants.items()},
    )


def decision_rules(settings: Settings) -> DecisionRules:
    decisions = settings.decisions
    return DecisionRules(decisions.timeout_seconds, decisions.fallback, dict(decisions.fallbacks))


def proxy_rules(settings: Settings) -> ProxyRules:
    admission = settings.admission
    return ProxyRules(tuple(parse_network(text) for text in admission.trusted_proxies), admission.proxy_header)


def proof_rules(settings: Settings) -> ProofRules:
    stations = settings.stations
    return ProofRules(
        auth_mode=stations.auth_mode,
        unknown_tenant=stations.unknown_tenant if stations.unknown == "admit" else None,
        hashing=Hashing(
            stations.hash_algorithm, stations.scrypt_n, stations.scrypt_r, stations.scrypt_p, stations.scrypt_keylen
        ),
        certificates=CertificateRules(
            require_binding=stations.require_cert_binding, organizations=settings.tls.client_organizations
        ),
    )


def tls_files(settings: Settings, config_dir: Path) -> TlsFiles | None:
    """The files of the TLS ports, None when no port speaks TLS."""
    tls = settings.tls
    if not speaks_tls(settings):
        return None

    def paths(texts: Iterable[str]) -> tuple[Path, ...]:
        return tuple(config_dir / text for text in texts)

    return TlsFiles(
        cert_paths=paths(tls.cert_path),
        key_paths=paths(tls.key_path),
        sni={name: paths(files) for name, files in tls.sni.items()},
        ca_paths=paths(tls.ca_path),
        crl_paths=paths(tls.crl_path),
        crl_check=tls.crl_check if tls.crl_path else "none",
        crl_expired=tls.crl_expired,
        crl_missing=tls.crl_missing,
        min_version=tls.min_version,
        ciphers=tls.ciphers,
        session_seconds=tls.session_seconds,
    )


def listeners(settings: Settings) -> list[tuple[int, str]]:
    """Ports of stations and what they speak: plain, none, request or require (the last three are TLS and say how a
    client certificate is asked for)."""
    websocket, tls = settings.websocket, settings.tls
    asked = tls.client_auth if tls.ca_path else "none"
    kinds = {"plain": "plain", "tls": "none", "mtls": "require", "mtls-optional": "request"}
    main = (websocket.port, asked if tls.enabled else "plain")
    return [main, *((int(port), kinds[kind]) for port, kind in websocket.more_ports.items())]


def read_tokens(settings: Settings, config_dir: Path) -> dict[str, KnownToken]:
    """The tokens of `answers.id_tokens_file`. Reads disk. Errors: ConfigError naming the file and every bad entry."""
    if not settings.answers.id_tokens_file:
        return {}
    path = config_dir / settings.answers.id_tokens_file
    try:
        return parse_tokens(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError, OcppgwError) as error:
        raise ConfigError(f"answers.id_tokens_file {path}: {error}", hint="mend the file, or name another") from None


def read_profiles(settings: Settings, config_dir: Path) -> list[Profile]:
    """The quirk profiles of `quirks.dir`. Reads disk. Errors: ConfigError naming every bad file and key."""
    return read_quirks(config_dir / settings.quirks.dir) if settings.quirks.dir else []


def session_rules(
    settings: Settings,
    judge: SigningJudge | None,
    tokens: TokenBook | None = None,
    quirks: QuirkBook | None = None,
) -> SessionRules:
    ocpp, answers = settings.ocpp, settings.answers
    return SessionRules(
        answers=AnswerRules(
            heartbeat_interval=ocpp.heartbeat_interval_seconds,
            boot_retry_interval=ocpp.boot_retry_interval_seconds,
            id_token_status=answers.id_token_status,
            id_tokens=dict(answers.id_tokens),
            tokens=tokens or TokenBook(),
            data_transfer_vendors=frozenset(answers.data_transfer_vendors),
            sign_certificate="Accepted" if settings.signing.mode == "backend" else "Rejected",
        ),
        boot_status=ocpp.boot_status,
        boot_models=tuple(map(pattern, ocpp.boot_models)),
        boot_unknown_model=ocpp.boot_unknown_model,
        assume_accepted=ocpp.assume_accepted,
        trigger_boot_when_rejected=ocpp.trigger_boot_when_rejected,
        unknown_type_error=ocpp.unknown_type_error,
        call_timeout=ocpp.call_timeout_seconds,
        commands_per_station=settings.commands.queue_per_station,
        pending_messages=ocpp.pending_message_limit,
        replay_seconds=ocpp.response_cache_ttl_seconds,
        bad_frames=ocpp.bad_frames_limit,
        bad_frames_seconds=ocpp.bad_frames_window_seconds,
        signing_judge=judge,
        acknowledged=_acknowledged(settings),
        normalises=settings.events.normalised,
        quirks=quirks,
    )


def _acknowledged(settings: Settings) -> frozenset[str]:
    """Actions whose answer waits for Kafka."""
    kafka = settings.kafka
    if not kafka.enabled:
        return frozenset()
    every = {action for version in VERSIONS for action in version.actions}
    return frozenset(every if "*" in kafka.acknowledged_actions else kafka.acknowledged_actions)


def local_signer(settings: Settings, config_dir: Path) -> Signer | None:
    """The local CA, None where there is none. Reads disk. Errors: ConfigError naming the file."""
    signing = settings.signing
    if signing.mode != "local":
        return None
    certificate, key = config_dir / signing.ca_cert_path, config_dir / signing.ca_key_path
    try:
        return Signer(
            certificate.read_bytes(),
            key.read_bytes(),
            valid_days=signing.valid_days,
            source=str(certificate),
            key_source=str(key),
        )
    except OSError as error:
        raise ConfigError(
            f"signing: {error.filename} can't be read: {error.strerror}", hint="check path and rights"
        ) from None


def topics(settings: Settings) -> dict[str, str]:
    """Kinds of topic to their names."""
    kafka = settings.kafka
    return {
        STATION: kafka.topic_station_events,
        SESSION: kafka.topic_session_events,
        COMMAND: kafka.topic_command_events,
        AUDIT: kafka.topic_audit_events,
        DEAD: kafka.topic_dead_letters,
    }


def kafka_settings(settings: Settings, config_dir: Path) -> KafkaSettings:
    kafka = settings.kafka

    def path(text: str) -> str:
        return str(config_dir / text) if text else ""

    return KafkaSettings(
        brokers=kafka.brokers,
        client_id=kafka.client_id,
        tls=kafka.tls,
        tls_ca_path=path(kafka.tls_ca_path),
        tls_cert_path=path(kafka.tls_cert_path),
        tls_key_path=path(kafka.tls_key_path),
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_username=kafka.sasl_username,
        sasl_password=kafka.sasl_password.get_secret_value(),
        connection_timeout=kafka.connection_timeout_ms / 1000,
        request_timeout=kafka.request_timeout_ms / 1000,
        ship_timeout=kafka.ship_timeout_seconds,
    )


def redis_settings(settings: Settings) -> "RedisSettings":
    """Only where Redis is enabled: importing its room installs Twisted's reactor. Errors: ConfigError."""
    from ocppgw.net.redis import RedisSettings, parse_url  # noqa: PLC0415

    redis = settings.redis
    hosts = (text.rpartition(":") for text in redis.sentinels)
    return RedisSettings(
        address=parse_url(redis.url.get_secret_value()),
        prefix=redis.prefix,
        identity_prefix=redis.identity_prefix,
        revoked_prefix=redis.revoked_prefix,
        connect_timeout=redis.connect_timeout_ms / 1000,
        call_timeout=redis.call_timeout_seconds,
        cache_seconds=redis.cache_seconds,
        revoked_ttl=settings.stations.revoked_ttl_seconds,
        attempts_kept=settings.admission.attempts_kept,
        sentinels=tuple((host.strip("[]"), int(port)) for host, _, port in hosts),
        sentinel_master=redis.sentinel_master,
        sentinel_tls=redis.sentinel_tls,
        sentinel_username=redis.sentinel_username,
        sentinel_password=redis.sentinel_password.get_secret_value(),
        cached_admission=redis.cached_admission_seconds if redis.when_away == "cached" else 0.0,
    )


def redis_tls(settings: Settings, config_dir: Path) -> Callable[[str], Any] | None:
    """What makes the TLS of connections to a host, by its name; None where the URL speaks none.

    Reads the files of certificates, at once for the URL's host, so that what is wrong with them shows at the start.
    Errors: an OcppgwError that names the file.
    """
    redis = settings.redis
    url = redis.url.get_secret_value()
    if not uses_tls(url):
        return None

    def path(text: str) -> Path | None:
        return config_dir / text if text else None

    @cache
    def creator(host: str) -> Any:
        client = TlsClient(host, path(redis.tls_ca_path))
        return client.creator(path(redis.tls_cert_path), path(redis.tls_key_path))

    creator(urlsplit(url).hostname or "")
    return creator


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
