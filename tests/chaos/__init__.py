"""Fault runs: a fleet of real nodes under load, something breaks, and the auditor says whether anything was lost.

auditor.py   what clients saw and what Kafka holds, compared; knows nothing of processes
clients.py   simulated stations: each repeats a CALL until it is answered, as real ones do; and a backend with commands
fleet.py     nodes, Redis and Kafka, and a cable to Redis that can be cut
faults.py    what breaks
run.py       one run: load, a fault in it, the end of the load, the audit
__main__.py  `make chaos`: every fault many times, and a table
"""
