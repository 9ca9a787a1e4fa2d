"""Parts of OCPP 2.x messages shared by sessions and commands."""

from ocppgw.simulator.dialect import Payload, timestamp
from ocppgw.simulator.vehicle import Reading


def id_token(token: str) -> Payload:
    return {"idToken": token, "type": "ISO14443"}


def meter_value(reading: Reading, context: str, now: float) -> Payload:
    def sample(value: float, measurand: str, unit: str, location: str = "Outlet") -> Payload:
        return {
            "value": value,
            "context": context,
            "measurand": measurand,
            "location": location,
            "unitOfMeasure": {"unit": unit},
        }

    values = [
        sample(reading.energy, "Energy.Active.Import.Register", "Wh"),
        sample(reading.power, "Power.Active.Import", "W"),
        sample(reading.current, "Current.Import", "A"),
        sample(reading.voltage, "Voltage", "V"),
    ]
    if reading.soc:
        values.append(sample(reading.soc, "SoC", "Percent", "EV"))
    return {"timestamp": timestamp(now), "sampledValue": values}
