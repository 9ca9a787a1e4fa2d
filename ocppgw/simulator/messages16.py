"""Parts of OCPP 1.6 messages shared by sessions and commands."""

from ocppgw.simulator.dialect import Payload, timestamp
from ocppgw.simulator.vehicle import Reading


def meter_value(reading: Reading, context: str, now: float) -> Payload:
    def sample(value: float, measurand: str, unit: str, **more: str) -> Payload:
        return {"value": str(value), "context": context, "measurand": measurand, "unit": unit, **more}

    values = [
        sample(reading.energy, "Energy.Active.Import.Register", "Wh"),
        sample(reading.power, "Power.Active.Import", "W"),
        sample(reading.current, "Current.Import", "A"),
        sample(reading.voltage, "Voltage", "V"),
    ]
    if reading.soc:
        values.append(sample(reading.soc, "SoC", "Percent", location="EV"))
    return {"timestamp": timestamp(now), "sampledValue": values}
