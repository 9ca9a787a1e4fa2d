"""A fleet of simulated charging stations (OCPP 1.6J, 2.0.1, 2.1) for tests, demos and load, against any CSMS.

options.py        what to simulate, checked
statistics.py     counters of a running fleet and the snapshot a display reads
vehicle.py        battery, power curve, one meter reading
outbox.py         CALLs of one station: one in flight, transaction messages kept while offline
station.py        one station as a plain object: bytes and seconds in, effects (effects.py) out
charging.py       connectors and the charging sessions on them
dialect.py        what a version has to provide;  dialect16.py, dialect2.py  the messages of each version
commands*.py      answers to every command of the CSMS, per version
memory.py         what commands leave behind in a station: profiles, lists, reservations, certificates
configuration.py  1.6 configuration keys, 2.x variables
connection.py     Autobahn client and reconnecting;  fleet.py  many stations, pacing, the end
"""

from ocppgw.simulator.fleet import run
from ocppgw.simulator.options import SimulatorOptions
from ocppgw.simulator.statistics import FleetSnapshot

__all__ = ["FleetSnapshot", "SimulatorOptions", "run"]
