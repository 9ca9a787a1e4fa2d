"""Answers to commands that 1.6 and 2.x share, and the follow-ups of commands.

A handler returns the CALLRESULT's payload. It may queue messages freely: the station looks at its queue only after the
answer is on its way.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ocppgw.simulator.charging import Cause, Connector, Reservation
from ocppgw.simulator.configuration import SettingKey
from ocppgw.simulator.dialect import VENDOR, Payload
from ocppgw.simulator.memory import MAX_ENTRIES, Full
from ocppgw.simulator.outbox import Outgoing

if TYPE_CHECKING:
    from ocppgw.simulator.station import Station

STEP = 10.0  # simulated seconds between the statuses of an upload or an update


# Follow-ups


def trigger(station: "Station", items: Iterable[Outgoing], now: float) -> Payload:
    """Queue messages that the CSMS asked for; they may go before the station is accepted."""
    for item in items:
        station.queue(item, now, early=True)
    return {"status": "Accepted"}


def sequence(
    station: "Station", key: str, statuses: Sequence[str], report: Callable[[str, float], None], now: float
) -> None:
    """Report one status after the other; a new sequence of the same key replaces what is left of the old one."""
    if not statuses:
        return

    def step(at: float) -> None:
        report(statuses[0], at)
        sequence(station, key, statuses[1:], report, at)

    station.later(key, now + station.scaled(STEP), step)


# Generic answers


def accept(station: "Station", payload: Payload, now: float) -> Payload:
    return {"status": "Accepted"}


def nothing(station: "Station", payload: Payload, now: float) -> Payload:
    return {}


def data_transfer(station: "Station", payload: Payload, now: float) -> Payload:
    if payload["vendorId"] != VENDOR:
        return {"status": "UnknownVendorId"}
    answer: Payload = {"status": "Accepted"}
    if "data" in payload:  # an echo, so that a test sees its own text come back
        answer["data"] = payload["data"]
    return answer


# Sessions, availability, reservations


def connector_for(station: "Station", number: int | None, id_token: str) -> Connector | None:
    """The connector asked for, or any, that is free for this token."""
    for key, connector in station.connectors.items():
        reserved = connector.reservation is not None and connector.reservation.id_token != id_token
        if number in (None, key) and connector.free and not reserved:
            return connector
    return None


def change_availability(station: "Station", chosen: list[Connector], operative: bool, now: float) -> Payload:
    if not chosen:
        return {"status": "Rejected"}
    done = [connector.set_operative(operative, now) for connector in chosen]
    return {"status": "Accepted" if all(done) else "Scheduled"}


def reserve(
    station: "Station", connector: Connector | None, reservation: Reservation, expires_at: float, now: float
) -> Payload:
    if connector is None:
        return {"status": "Rejected"}
    if not connector.operative:
        return {"status": "Unavailable"}
    replaced = connector.reservation
    if not connector.free or (replaced is not None and replaced.reservation_id != reservation.reservation_id):
        return {"status": "Occupied"}
    connector.reserve(reservation, expires_at, now)
    return {"status": "Accepted"}


def cancel_reservation(station: "Station", payload: Payload, now: float) -> Payload:
    for connector in station.connectors.values():
        if connector.reservation is not None and connector.reservation.reservation_id == payload["reservationId"]:
            connector.drop_reservation()
            if connector.at_rest:
                connector.rest(now)
            return {"status": "Accepted"}
    return {"status": "Rejected"}


def send_local_list(station: "Station", update_type: str, version: int, rows: dict[str, Payload | None]) -> Payload:
    """`rows`: token -> entry, or None for a token to be removed (differential updates)."""
    memory = station.memory
    if update_type == "Differential" and version <= memory.list_version:
        return {"status": "VersionMismatch"}
    merged = {} if update_type == "Full" else dict(memory.local_list)
    for token, entry in rows.items():
        if entry is None:
            merged.pop(token, None)
        else:
            merged[token] = entry
    if len(merged) > MAX_ENTRIES:
        return {"status": "Failed"}
    memory.local_list, memory.list_version = merged, version
    return {"status": "Accepted"}


# Charging profiles


def add_profile(station: "Station", number: int, profile: Payload) -> Payload:
    if number != 0 and number not in station.connectors:
        return {"status": "Rejected"}
    try:
        station.memory.add_profile(number, profile)
    except Full:
        return {"status": "Rejected"}
    return {"status": "Accepted"}


# Configuration, triggers


def change_setting(station: "Station", key: SettingKey, value: str, now: float) -> None:
    station.settings[key] = value
    if key == station.dialect.heartbeat_key:
        station.plan_heartbeat(now)


def trigger_boot(station: "Station", now: float) -> Payload:
    if station.accepted:  # pointless then: 1.6 errata 3.35, 2.x F06.FR.17
        return {"status": "Rejected"}
    station.cancel("boot")
    station.boot_again(now, "Triggered")
    return {"status": "Accepted"}


def limit(station: "Station", number: int, unit: str, now: float) -> float:
    """The power (W) or current (A) that the profiles leave to a connector or EVSE; 0: the first one stands for all."""
    connector = station.connectors.get(number) or next(iter(station.connectors.values()))
    started_at = connector.session.started_at if connector.session is not None else now
    watts = station.memory.power_limit(number, connector.supply, started_at, now)
    return round(watts if unit == "W" else watts / connector.supply.watts(1.0), 1)


# Firmware, logs, certificates


def update_firmware(station: "Station", request_id: int | None, *, signed: bool, now: float) -> Payload:
    """Download, verify, install, reboot, report: 1.6 section 4.5, 2.x L01, L02."""
    memory = station.memory
    replaced, memory.firmware_running, memory.firmware_request = memory.firmware_running, True, request_id
    verified = ("SignatureVerified",) if signed else ()

    def report(status: str, at: float) -> None:
        station.queue(station.dialect.firmware(status, request_id, signed=signed), at)
        if status == "Installing":
            station.after_boot("firmware", installed)
            station.reboot_soon(at, "FirmwareUpdate", cause=Cause.REBOOT, graceful=True)

    def installed(at: float) -> None:
        memory.firmware_running = False
        station.firmware_version = f"1.{int(station.firmware_version.split('.')[1]) + 1}.0"
        station.queue(station.dialect.firmware("Installed", request_id, signed=signed), at)

    sequence(station, "firmware", ("Downloading", "Downloaded", *verified, "Installing"), report, now)
    return {"status": "AcceptedCanceled" if replaced else "Accepted"}


def get_log(station: "Station", payload: Payload, now: float) -> Payload:
    memory, request_id = station.memory, int(payload["requestId"])
    replaced, memory.log_request = memory.log_request, request_id

    def report(status: str, at: float) -> None:
        if status == "Uploaded":
            memory.log_request = None
        station.send("LogStatusNotification", {"status": status, "requestId": request_id}, at)

    sequence(station, "log", ("Uploading", "Uploaded"), report, now)
    status = "Accepted" if replaced is None else "AcceptedCanceled"
    return {"status": status, "filename": f"{station.station_id}-{payload['logType']}-{request_id}.log"[:255]}


def log_status_now(station: "Station") -> Outgoing:
    if station.memory.log_request is None:
        return Outgoing("LogStatusNotification", {"status": "Idle"})
    payload = {"status": "Uploading", "requestId": station.memory.log_request}
    return Outgoing("LogStatusNotification", payload)


def install_certificate(station: "Station", payload: Payload, now: float) -> Payload:
    try:
        station.memory.install_certificate(payload["certificateType"], payload["certificate"])
    except Full:
        return {"status": "Rejected"}
    return {"status": "Accepted"}


def delete_certificate(station: "Station", payload: Payload, now: float) -> Payload:
    wanted = payload["certificateHashData"]
    stored = station.memory.certificates.get(wanted["serialNumber"])
    if stored is None or stored[1] != wanted:
        return {"status": "NotFound"}
    del station.memory.certificates[wanted["serialNumber"]]
    return {"status": "Accepted"}


@lru_cache(maxsize=1)
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())  # one for the process: nobody relies on it


def signing_request(station_id: str) -> str:
    """A PEM certificate request with CN = station id."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, station_id),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, VENDOR),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(_key(), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()
