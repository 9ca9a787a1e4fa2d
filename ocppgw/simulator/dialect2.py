"""OCPP 2.0.1 and 2.1: the messages a station sends. A connector is an EVSE with one connector, number 1."""

from typing import TYPE_CHECKING

from ocppgw.simulator.charging import Cause, Connector, Session
from ocppgw.simulator.commands2 import COMMANDS_201
from ocppgw.simulator.commands21 import COMMANDS_21
from ocppgw.simulator.configuration import VARIABLES_2, SettingKey
from ocppgw.simulator.dialect import VENDOR, Payload, timestamp
from ocppgw.simulator.messages2 import id_token, meter_value
from ocppgw.simulator.outbox import Outgoing

if TYPE_CHECKING:
    from ocppgw.simulator.station import Station

OCCUPIED = frozenset(("Preparing", "Charging", "SuspendedEV", "SuspendedEVSE", "Finishing"))


class Dialect2:
    """The two versions differ in the commands, and in what 2.1 adds to TransactionEvent."""

    is_2x = True
    malformed = "FormatViolation"
    bad_frame = "RpcFrameworkError"
    heartbeat_key: SettingKey = ("OCPPCommCtrlr", "HeartbeatInterval")
    sample_key: SettingKey = ("SampledDataCtrlr", "TxUpdatedInterval")
    settings = VARIABLES_2

    def __init__(self, version: str) -> None:
        self.version = version
        self.subprotocol = f"ocpp{version}"
        self.commands = COMMANDS_21 if version == "2.1" else COMMANDS_201

    def boot(self, station: "Station") -> Payload:
        charging_station = {
            "vendorName": VENDOR,
            "model": "SIM-22",
            "serialNumber": station.station_id[:25],
            "firmwareVersion": station.firmware_version,
        }
        return {"reason": station.boot_reason, "chargingStation": charging_station}

    def wire_status(self, status: str) -> str:
        return "Occupied" if status in OCCUPIED else status

    def status(self, connector: Connector, now: float) -> Payload:
        return {
            "timestamp": timestamp(now),
            "connectorStatus": self.wire_status(connector.status),
            "evseId": connector.number,
            "connectorId": 1,
        }

    def authorize(self, token: str) -> Payload:
        return {"idToken": id_token(token)}

    def authorization(self, answer: Payload) -> str:
        info = answer.get("idTokenInfo")
        return str(info["status"]) if info is not None else "Accepted"

    def started(self, connector: Connector, session: Session, now: float) -> Outgoing:
        remote = session.remote_start_id is not None
        item = self._event(connector, session, "Started", "RemoteStart" if remote else "Authorized", now)
        item.payload["evse"] = {"id": connector.number, "connectorId": 1}
        item.payload["idToken"] = id_token(session.id_token)
        item.payload["meterValue"] = [meter_value(connector.reading(now), "Transaction.Begin", now)]
        if session.reservation_id is not None:
            item.payload["reservationId"] = session.reservation_id
        if remote:
            item.payload["transactionInfo"]["remoteStartId"] = session.remote_start_id
        return item

    def sampled(self, connector: Connector, session: Session, now: float, *, triggered: bool = False) -> Outgoing:
        reason, context = ("Trigger", "Trigger") if triggered else ("MeterValuePeriodic", "Sample.Periodic")
        item = self._event(connector, session, "Updated", reason, now)
        item.payload["meterValue"] = [meter_value(connector.reading(now), context, now)]
        item.intermediate = True
        return item

    def suspended(self, connector: Connector, session: Session, now: float) -> Outgoing | None:
        item = self._event(connector, session, "Updated", "ChargingStateChanged", now)
        item.payload["meterValue"] = [meter_value(connector.reading(now), "Other", now)]
        return item

    def resumed(self, connector: Connector, session: Session, now: float) -> Outgoing | None:
        if self.version != "2.1":  # 2.0.1 has no word for it; the next sample shows that the transaction goes on
            return None
        return self._event(connector, session, "Updated", "TxResumed", now)

    def ended(self, connector: Connector, session: Session, cause: Cause, now: float) -> Outgoing:
        _, trigger_reason, stopped_reason = cause.value
        item = self._event(connector, session, "Ended", trigger_reason, now)
        item.payload["transactionInfo"]["stoppedReason"] = stopped_reason
        item.payload["transactionInfo"]["chargingState"] = "EVConnected"
        item.payload["meterValue"] = [meter_value(connector.reading(now), "Transaction.End", now)]
        if cause is Cause.LOCAL:
            item.payload["idToken"] = id_token(session.id_token)
        return item

    def firmware(self, status: str, request_id: int | None, *, signed: bool) -> Outgoing:
        payload: Payload = {"status": status}
        if request_id is not None:
            payload["requestId"] = request_id
        return Outgoing("FirmwareStatusNotification", payload)

    def _event(self, connector: Connector, session: Session, kind: str, reason: str, now: float) -> Outgoing:
        info: Payload = {
            "transactionId": session.transaction_id,
            "chargingState": "SuspendedEV" if session.suspended else "Charging",
            "timeSpentCharging": int((now - session.started_at) * connector.station.plan.speed),
        }
        payload: Payload = {
            "eventType": kind,
            "timestamp": timestamp(now),
            "triggerReason": reason,
            "seqNo": session.next_seq_no(),
            "transactionInfo": info,
        }
        # `offline` tells that the event happened without a connection (E04); it stays when it is sent again.
        if not connector.station.online:
            payload["offline"] = True
        return Outgoing("TransactionEvent", payload, transactional=True)
