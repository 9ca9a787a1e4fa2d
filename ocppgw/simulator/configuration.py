"""The settings a simulated station offers: 1.6 configuration keys, 2.x variables.

A key is the 1.6 key name, or the 2.x pair (component, variable). Names: OCPP 1.6 section 9, 2.x part 2 chapter 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SettingKey = str | tuple[str, str]


@dataclass(frozen=True)
class Setting:
    """`kind` is a dataType of 2.x: integer, boolean, string, OptionList."""

    default: str
    kind: str = "integer"
    writable: bool = True
    needs_reboot: bool = False
    secret: bool = False  # can be written, is never shown
    options: str = ""

    def accepts(self, value: str) -> bool:
        if self.kind == "integer":
            return value.isascii() and value.isdigit() and len(value) < 10
        if self.kind == "boolean":
            return value.lower() in ("true", "false")
        if self.kind == "OptionList":
            return value in self.options.split(",")
        return True

    @property
    def mutability(self) -> str:
        if self.secret:
            return "WriteOnly"
        return "ReadWrite" if self.writable else "ReadOnly"


def _fixed(value: str, kind: str = "integer") -> Setting:
    return Setting(value, kind, writable=False)


KEYS_16: Mapping[SettingKey, Setting] = {
    "AllowOfflineTxForUnknownId": Setting("true", "boolean"),
    "AuthorizationCacheEnabled": Setting("false", "boolean"),
    "AuthorizationKey": Setting("", "string", secret=True),
    "AuthorizeRemoteTxRequests": _fixed("false", "boolean"),
    "ChargeProfileMaxStackLevel": _fixed("10"),
    "ChargingScheduleAllowedChargingRateUnit": _fixed("Current,Power", "string"),
    "ChargingScheduleMaxPeriods": _fixed("100"),
    "ClockAlignedDataInterval": Setting("0"),
    "ConnectionTimeOut": Setting("60"),
    "CpoName": Setting("", "string"),
    "GetConfigurationMaxKeys": _fixed("50"),
    "HeartbeatInterval": Setting("300"),
    "LocalAuthListEnabled": Setting("true", "boolean"),
    "LocalAuthListMaxLength": _fixed("1000"),
    "LocalAuthorizeOffline": Setting("true", "boolean"),
    "LocalPreAuthorize": Setting("false", "boolean"),
    "MaxChargingProfilesInstalled": _fixed("100"),
    "MeterValueSampleInterval": Setting("60"),
    "MeterValuesSampledData": _fixed("Energy.Active.Import.Register,Power.Active.Import,SoC", "string"),
    "NumberOfConnectors": _fixed("2"),
    "ResetRetries": Setting("1"),
    "SecurityProfile": Setting("1", needs_reboot=True),
    "SendLocalListMaxLength": _fixed("100"),
    "StopTransactionOnEVSideDisconnect": Setting("true", "boolean"),
    "SupportedFeatureProfiles": _fixed(
        "Core,FirmwareManagement,LocalAuthListManagement,Reservation,SmartCharging,RemoteTrigger", "string"
    ),
    "TransactionMessageAttempts": _fixed("3"),
    "TransactionMessageRetryInterval": _fixed("10"),
    "UnlockConnectorOnEVSideDisconnect": Setting("true", "boolean"),
    "WebSocketPingInterval": _fixed("60"),
}

VARIABLES_2: Mapping[SettingKey, Setting] = {
    ("AlignedDataCtrlr", "Interval"): Setting("0"),
    ("AuthCtrlr", "Enabled"): Setting("true", "boolean"),
    ("AuthCtrlr", "LocalAuthorizeOffline"): Setting("true", "boolean"),
    ("AuthCtrlr", "LocalPreAuthorize"): Setting("false", "boolean"),
    ("ChargingStation", "AllowNewSessionsPendingFirmwareUpdate"): Setting("true", "boolean"),
    ("ChargingStation", "AvailabilityState"): _fixed("Available", "OptionList"),
    ("ChargingStation", "Model"): _fixed("SIM-22", "string"),
    ("ChargingStation", "VendorName"): _fixed("ocppgw", "string"),
    ("ClockCtrlr", "TimeSource"): Setting("Heartbeat", "OptionList", options="Heartbeat,NTP,RealTimeClock"),
    ("DeviceDataCtrlr", "ItemsPerMessage"): _fixed("50"),
    ("LocalAuthListCtrlr", "Entries"): _fixed("0"),
    ("LocalAuthListCtrlr", "ItemsPerMessage"): _fixed("100"),
    ("MonitoringCtrlr", "Enabled"): Setting("true", "boolean"),
    ("OCPPCommCtrlr", "HeartbeatInterval"): Setting("300"),
    ("OCPPCommCtrlr", "MessageAttempts"): _fixed("3"),
    ("OCPPCommCtrlr", "MessageTimeout"): _fixed("30"),
    ("OCPPCommCtrlr", "NetworkConfigurationPriority"): Setting("1", "string", needs_reboot=True),
    ("OCPPCommCtrlr", "OfflineThreshold"): Setting("60"),
    ("OCPPCommCtrlr", "WebSocketPingInterval"): _fixed("60"),
    ("SampledDataCtrlr", "TxUpdatedInterval"): Setting("60"),
    ("SampledDataCtrlr", "TxUpdatedMeasurands"): _fixed("Energy.Active.Import.Register,Power.Active.Import", "string"),
    ("SecurityCtrlr", "BasicAuthPassword"): Setting("", "string", secret=True),
    ("SecurityCtrlr", "OrganizationName"): Setting("ocppgw", "string"),
    ("SecurityCtrlr", "SecurityProfile"): _fixed("1"),
    ("SmartChargingCtrlr", "Enabled"): Setting("true", "boolean"),
    ("TxCtrlr", "EVConnectionTimeOut"): Setting("60"),
    ("TxCtrlr", "StopTxOnEVSideDisconnect"): Setting("true", "boolean"),
}

COMPONENTS_2 = frozenset(key[0] for key in VARIABLES_2)
