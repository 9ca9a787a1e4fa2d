"""Meter values of any version, in one form and fixed units.

    1.6: {"value": "1.5", "unit": "kWh"}                                        -> {"energyImportWh": 1500.0}
    2.x: {"value": 1.5, "unitOfMeasure": {"unit": "kWh", "multiplier": 0}}       -> {"energyImportWh": 1500.0}

A value stands for its quantity when it has no phase, or under the phase it has; nothing is added up: what a station
says of its phases need not be all of them. Values of the cable's other end and of the inlet are the vehicle's affair
and left out, but for its state of charge. What can't be read is counted, never guessed: `unparsed` for text that is no
number and units nobody knows, `signed` for signed data (1.6 format SignedData), which only a transparency tool can
read.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

DEFAULT_MEASURAND = "Energy.Active.Import.Register"  # 1.6 SampledValue, 2.x SampledValueType
# Measurand -> (member, unit that is meant when none is given). Members end in their unit.
QUANTITIES: Mapping[str, tuple[str, str]] = {
    "Energy.Active.Import.Register": ("energyImportWh", "Wh"),
    "Energy.Active.Export.Register": ("energyExportWh", "Wh"),
    "Energy.Active.Import.Interval": ("energyImportIntervalWh", "Wh"),
    "Energy.Active.Export.Interval": ("energyExportIntervalWh", "Wh"),
    "Power.Active.Import": ("powerImportW", "W"),
    "Power.Active.Export": ("powerExportW", "W"),
    "Power.Offered": ("powerOfferedW", "W"),
    "Current.Import": ("currentImportA", "A"),
    "Current.Export": ("currentExportA", "A"),
    "Current.Offered": ("currentOfferedA", "A"),
    "Voltage": ("voltageV", "V"),
    "Frequency": ("frequencyHz", "Hertz"),
    "SoC": ("socPercent", "Percent"),
    "Temperature": ("temperatureC", "Celsius"),
}
UNITS: Mapping[str, tuple[str, Decimal]] = {
    "Wh": ("Wh", Decimal(1)),
    "kWh": ("Wh", Decimal(1000)),
    "W": ("W", Decimal(1)),
    "kW": ("W", Decimal(1000)),
    "A": ("A", Decimal(1)),
    "V": ("V", Decimal(1)),
    "Hertz": ("Hertz", Decimal(1)),
    "Hz": ("Hertz", Decimal(1)),
    "Percent": ("Percent", Decimal(1)),
    "Celsius": ("Celsius", Decimal(1)),
    "Celcius": ("Celsius", Decimal(1)),  # as 1.6 spelt it first
}
MAX_MULTIPLIER = 30  # of ten: beyond it is no reading of a meter

Reading = dict[str, Any]


def readings(meter_values: Sequence[Mapping[str, Any]]) -> list[Reading]:
    """One for each timestamp and context, in their order: {at, context?, quantities…, byPhase?, unparsed?, signed?}."""
    found: dict[tuple[str, str], Reading] = {}
    for meter_value in meter_values:
        for sample in meter_value["sampledValue"]:
            context = sample.get("context", "Sample.Periodic")
            key = (meter_value["timestamp"], context)
            reading = found.setdefault(key, {"at": meter_value["timestamp"], "context": context})
            _put(reading, sample)
    return list(found.values())


def _put(reading: Reading, sample: Mapping[str, Any]) -> None:
    if sample.get("format") == "SignedData":
        reading["signed"] = reading.get("signed", 0) + 1
        return
    if "signedMeterValue" in sample:  # beside it stands the plain value
        reading["signed"] = reading.get("signed", 0) + 1
    quantity = QUANTITIES.get(sample.get("measurand", DEFAULT_MEASURAND))
    if quantity is None:
        return
    member, unit = quantity
    if sample.get("location", "Outlet") != "Outlet" and member != "socPercent":
        return
    value = _value(sample, unit)
    if value is None:
        reading["unparsed"] = reading.get("unparsed", 0) + 1
    elif "phase" in sample:
        reading.setdefault("byPhase", {}).setdefault(member, {})[sample["phase"]] = value
    else:
        reading[member] = value


def _value(sample: Mapping[str, Any], default_unit: str) -> float | None:
    """In the unit that is meant; None when it can't be read."""
    measure = sample.get("unitOfMeasure", {})
    name = sample.get("unit") or measure.get("unit") or default_unit
    unit, factor = UNITS.get(name, ("", Decimal()))
    multiplier = measure.get("multiplier", 0)
    if unit != default_unit or abs(multiplier) > MAX_MULTIPLIER:
        return None
    text = str(sample["value"])
    try:
        value = float(Decimal(text) * factor.scaleb(multiplier))  # decimal: 2.3 kWh are 2300 Wh, not 2299.9999999999995
    except (ArithmeticError, ValueError):
        return None
    return value if math.isfinite(value) and "_" not in text else None
