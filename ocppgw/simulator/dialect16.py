"""OCPP 1.6J: the messages a station sends."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ocppgw.simulator.charging import Cause, Connector, Session
from ocppgw.simulator.commands16 import COMMANDS_16
from ocppgw.simulator.configuration import KEYS_16, SettingKey
from ocppgw.simulator.dialect import VENDOR, Payload, timestamp
from ocppgw.simulator.messages16 import meter_value
from ocppgw.simulator.outbox import Outgoing

if TYPE_CHECKING:
    from ocppgw.simulator.station import Station

UNCONFIRMED = -1  # transactionId of a transaction whose StartTransaction never got an answer (errata 3.18)


class Dialect16:
    version = "1.6"
    subprotocol = "ocpp1.6"
    is_2x = False
    malformed = "FormationViolation"
    bad_frame = "FormationViolation"
    heartbeat_key: SettingKey = "HeartbeatInterval"
    sample_key: SettingKey = "MeterValueSampleInterval"
    settings = KEYS_16
    commands = COMMANDS_16

    def boot(self, station: "Station") -> Payload:
        return {
            "chargePointVendor": VENDOR,
            "chargePointModel": "SIM-22",
            "chargePointSerialNumber": station.station_id[:25],
            "firmwareVersion": station.firmware_version,
            "meterType": "simulated",
        }

    def wire_status(self, status: str) -> str:
        return status

    def status(self, connector: Connector, now: float) -> Payload:
        return {
            "connectorId": connector.number,
            "errorCode": "NoError",
            "status": connector.status,
            "timestamp": timestamp(now),
        }

    def authorize(self, id_token: str) -> Payload:
        return {"idTag": id_token}

    def authorization(self, answer: Payload) -> str:
        info = answer.get("idTagInfo")
        return str(info["status"]) if info is not None else "Accepted"

    def started(self, connector: Connector, session: Session, now: float) -> Outgoing:
        payload: Payload = {
            "connectorId": connector.number,
            "idTag": session.id_token,
            "meterStart": int(connector.register),
            "timestamp": timestamp(now),
        }
        if session.reservation_id is not None:
            payload["reservationId"] = session.reservation_id

        def answered(answer: Payload, _: float) -> None:
            session.transaction_id = int(answer["transactionId"])

        return Outgoing("StartTransaction", payload, answered, transactional=True)

    def sampled(self, connector: Connector, session: Session, now: float, *, triggered: bool = False) -> Outgoing:
        context = "Trigger" if triggered else "Sample.Periodic"
        payload: Payload = {
            "connectorId": connector.number,
            "transactionId": UNCONFIRMED,
            "meterValue": [meter_value(connector.reading(now), context, now)],
        }
        # The id is not known before StartTransaction is answered, and that may be after this sample was taken.
        prepare = _fills_id(session)
        return Outgoing("MeterValues", payload, transactional=True, intermediate=True, prepare=prepare)

    def suspended(self, connector: Connector, session: Session, now: float) -> Outgoing | None:
        return self.sampled(connector, session, now)

    def resumed(self, connector: Connector, session: Session, now: float) -> Outgoing | None:
        return None

    def ended(self, connector: Connector, session: Session, cause: Cause, now: float) -> Outgoing:
        reason = cause.value[0]
        payload: Payload = {
            "transactionId": UNCONFIRMED,
            "meterStop": int(connector.register),
            "timestamp": timestamp(now),
            "reason": reason,
            "transactionData": [meter_value(connector.reading(now), "Transaction.End", now)],
        }
        if cause is Cause.LOCAL:
            payload["idTag"] = session.id_token
        return Outgoing("StopTransaction", payload, transactional=True, prepare=_fills_id(session))

    def firmware(self, status: str, request_id: int | None, *, signed: bool) -> Outgoing:
        payload: Payload = {"status": status}
        if signed and request_id is not None:
            payload["requestId"] = request_id
        return Outgoing("SignedFirmwareStatusNotification" if signed else "FirmwareStatusNotification", payload)


def _fills_id(session: Session) -> Callable[[Payload], None]:
    def prepare(payload: Payload) -> None:
        if isinstance(session.transaction_id, int):
            payload["transactionId"] = session.transaction_id

    return prepare
