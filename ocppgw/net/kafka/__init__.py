"""ports.Bus on Apache Kafka, with kafka-python in threads of its own.

settings.py     what is configured, and what it means to the client library
clients.py      one producer and one consumer of the library: its traps are guarded here
connections.py  its connections, which tell why they fail
partitions.py   which partition a key belongs to
shipping.py     what the producer's thread does: a batch is acknowledged, or fails within a bounded time
reading.py      what a consumer's thread does: a batch is committed once it was handled
threads.py      the threads themselves, and what they share with the reactor
health.py       what is wrong, told once an outage
complaints.py   what the library logs, tamed
bus.py          the bus

kafka-python drives its sockets from threads and has no hook for another loop; its calls block and raise, its
constructors too. So each client belongs to one thread here, which hands over to the reactor with one `callFromThread`
a batch.
"""

from ocppgw.net.kafka.bus import KafkaBus
from ocppgw.net.kafka.settings import KafkaSettings

__all__ = ["KafkaBus", "KafkaSettings"]
