"""ocppgw: a gateway between electric-vehicle charging stations (OCPP) and a charging backend."""

__version__ = "0.1.0"
