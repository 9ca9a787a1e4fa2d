"""Fault runs: a fleet of real nodes under load, something breaks, and the auditor says whether anything was lost.

auditor.py   what clients saw and what Kafka holds, compared; knows nothing of processes
charging.py  what a station sends
clients.py   simulated stations: each repeats a CALL until it is answered, as real ones do
backend.py   a backend that writes commands
fleet.py     nodes on one Redis and one Kafka, and cables to Redis that can be cut
faults.py    what breaks
run.py       one run: load, a fault in it, the end of the load, the audit
reading.py   all that Kafka holds, held against schemas/asyncapi.json
report.py    a line for each run, and the table
__main__.py  `make chaos`: every fault many times
"""
