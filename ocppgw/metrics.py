"""What the gateway counts, and how Prometheus reads it.

Counting happens for every message, reading every few seconds: so counters are plain integers in plain dicts, and one
collector turns them into samples at scrape time. Names follow https://prometheus.io/docs/practices/naming/ (base
units, `_total` for counters). No label takes its value from a peer: what isn't known beforehand is counted as "other".
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ocppgw.ports import JournalStatus

OTHER = "other"
CONTENT_TYPE = CONTENT_TYPE_LATEST
MAX_LABEL_SETS = 256  # per counter; every value is a constant of this code base, so reaching it is a bug, not load

ANSWER_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
COMMIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
BATCH_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Counts:
    """A counter under at most `limit` label sets; a label set beyond them is counted as all "other"."""

    def __init__(self, name: str, help_text: str, labels: tuple[str, ...], limit: int = MAX_LABEL_SETS) -> None:
        self.name, self.help_text, self.labels, self._limit = name, help_text, labels, limit
        self.values: dict[tuple[str, ...], int] = {}

    def add(self, *labels: str, amount: int = 1) -> None:
        """Count `amount` under these label values (one per label, in order)."""
        values = self.values
        if labels not in values and len(values) >= self._limit:
            labels = (OTHER,) * len(self.labels)
        values[labels] = values.get(labels, 0) + amount

    def total(self) -> int:
        """The sum over all label sets."""
        return sum(self.values.values())

    def metric(self) -> CounterMetricFamily:
        """The samples of this moment."""
        family = CounterMetricFamily(self.name, self.help_text, labels=self.labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        return family


class Buckets:
    """A histogram with fixed upper bounds; observing is one bisection and two additions."""

    def __init__(self, name: str, help_text: str, bounds: tuple[float, ...]) -> None:
        self.name, self.help_text, self._bounds = name, help_text, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation (in the unit the name ends in)."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def metric(self) -> HistogramMetricFamily:
        """The samples of this moment: cumulative, as the exposition format wants them."""
        below = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip([*map(float, self._bounds), float("inf")], self._counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), below))
        family = HistogramMetricFamily(self.name, self.help_text)
        # The stubs want list[Sequence[...]] of mixed lengths (exemplars); pairs are what this needs.
        family.add_metric([], buckets, self._sum)
        return family


class _Gather(Collector):
    """Hands the registry whatever `source` yields at scrape time."""

    def __init__(self, source: Callable[[], Iterator[Metric]]) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        return self._source()

    def describe(self) -> Iterable[Metric]:
        return ()  # without it, registering would collect once, before anything is there to be read


class Metrics:
    """All counters of one gateway process.

    `actions` names, per OCPP version ("1.6J", "2.0.1", "2.1"), the actions worth a label of their own; `version` goes
    into `ocppgw_build_info`.
    """

    def __init__(self, actions: Mapping[str, Collection[str]], version: str) -> None:
        self._build = {"version": version, "python": platform.python_version()}
        self._connections: Callable[[], Mapping[str, int]] = dict
        self._journal: Callable[[], JournalStatus] | None = None
        self._tls_ends: Callable[[], Iterable[tuple[str, str, float]]] = tuple
        self._relay_lag: Callable[[], tuple[int, float]] | None = None
        self._versions = frozenset(actions)
        self._received = _received_counts(actions)
        self._messages = self._received.values
        self._define()
        self.registry = CollectorRegistry()
        self.registry.register(_Gather(self._collect))
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _define(self) -> None:
        """Every instrument but the received messages, which `received` counts by itself."""
        self._handshakes = Counts("ocppgw_handshakes", "WebSocket handshakes by how they were decided.", ("outcome",))
        self._call_errors = Counts("ocppgw_call_errors", "CALLERRORs sent to stations.", ("version", "code"))
        self._bad_frames = Counts("ocppgw_bad_frames", "Messages that are no usable OCPP-J.", ("version", "kind"))
        self._repairs = Counts("ocppgw_repairs", "Repairs of messages, by name of the quirk.", ("repair",))
        self._notes = Counts("ocppgw_notes", "Oddities of stations that were tolerated.", ("kind",))
        self._events = Counts("ocppgw_events_published", "Events made durable.", ("topic",))
        self._commands = Counts("ocppgw_commands", "Commands that ended, by outcome.", ("outcome",))
        self._closes = Counts("ocppgw_closes", "WebSocket connections closed, by close code.", ("code",))
        self._tls = Counts("ocppgw_tls_connections", "Stations let in over TLS.", ("version", "resumed"))
        self._reloads = Counts(
            "ocppgw_tls_reloads", "Looks at the TLS files, by why they were looked at and outcome.", ("why", "outcome")
        )
        self._shipped = Counts("ocppgw_relay_shipped", "Events that Kafka has acknowledged.", ("topic",))
        self._relay_failures = Counts("ocppgw_relay_failures", "Batches of events that Kafka did not take.", ())
        self._relay_failures.add(amount=0)
        self._intake = Counts(
            "ocppgw_intake_records", "Command records read from Kafka, by what became of them.", ("outcome",)
        )
        self._decisions = Counts(
            "ocppgw_decisions",
            "Answers asked of the backend, by who gave them or why it did not.",
            ("action", "outcome"),
        )
        self._decision = Buckets(
            "ocppgw_decision_seconds", "From asking the backend for an answer to its answer.", ANSWER_SECONDS
        )
        self._left_out = Counts("ocppgw_log_left_out", "Log lines left out by rate limits.", ())
        self._left_out.add(amount=0)
        self._answer = Buckets("ocppgw_answer_seconds", "From receiving a CALL to sending its answer.", ANSWER_SECONDS)
        self._commit = Buckets("ocppgw_journal_commit_seconds", "One journal commit, with fsync.", COMMIT_SECONDS)
        self._batch = Buckets("ocppgw_journal_batch_records", "Records in one journal commit.", BATCH_RECORDS)

    # Hot path: per message.

    def received(self, version: str, action: str) -> None:
        """A CALL or SEND was received. An action the version doesn't know is counted as "other"."""
        try:
            self._messages[version, action] += 1
        except KeyError:
            self._messages[version if version in self._versions else OTHER, OTHER] += 1

    def answered(self, seconds: float) -> None:
        """A CALL was answered `seconds` after it was received."""
        self._answer.observe(seconds)

    def published(self, topic: str, amount: int = 1) -> None:
        """Events of this topic became durable."""
        self._events.add(topic, amount=amount)

    # Now and then.

    def handshake(self, outcome: str) -> None:
        """A handshake was decided: "admitted" or the reason of the refusal (a constant, never the peer's words)."""
        self._handshakes.add(outcome)

    def tls(self, version: str, *, resumed: bool) -> None:
        """A station was let in over TLS of this version (as OpenSSL names it)."""
        self._tls.add(version, "yes" if resumed else "no")

    def tls_reloaded(self, why: str, outcome: str) -> None:
        """The TLS files were looked at again ("timer", "SIGHUP"): "swapped", "unchanged" or "kept" (the new ones can't
        be used)."""
        self._reloads.add(why, outcome)

    def call_error(self, version: str, code: str) -> None:
        """A CALLERROR with this code was sent."""
        self._call_errors.add(version, code)

    def bad_frame(self, version: str, kind: str) -> None:
        """A message could not be used; `kind` says why (a constant)."""
        self._bad_frames.add(version, kind)

    def note(self, kind: str) -> None:
        """An `effects.Note` was performed."""
        self._notes.add(kind)

    def repaired(self, name: str) -> None:
        """A station's message was repaired, as its quirk profile says."""
        self._repairs.add(name)

    def command_ended(self, outcome: str) -> None:
        """A command reached its terminal status."""
        self._commands.add(outcome)

    def closed(self, code: int | None) -> None:
        """A connection ended; None when there was no close handshake (RFC 6455 section 7.1.5 calls that 1006)."""
        code = 1006 if code is None else code
        self._closes.add(str(code) if 1000 <= code <= 1015 else OTHER)

    def log_left_out(self, amount: int = 1) -> None:
        """A rate limit kept this many log lines back."""
        self._left_out.add(amount=amount)

    def journal_committed(self, seconds: float, records: int) -> None:
        """One journal commit of `records` records took `seconds`."""
        self._commit.observe(seconds)
        self._batch.observe(records)

    def relay_shipped(self, topic: str, amount: int) -> None:
        """Kafka has acknowledged events for this topic."""
        self._shipped.add(topic, amount=amount)

    def relay_failed(self) -> None:
        """Kafka did not take a batch; it is tried again."""
        self._relay_failures.add()

    def intake_record(self, outcome: str) -> None:
        """A command record was read from Kafka: "stored", "repeated", "dead-letter" or "failed" (it comes again)."""
        self._intake.add(outcome)

    def decided(self, action: str, outcome: str, seconds: float) -> None:
        """The backend was asked for an answer: "backend", "error" (it refused), or why it gave none: "timeout",
        "not-asked", "overloaded"."""
        self._decisions.add(action, outcome)
        if outcome in ("backend", "error"):
            self._decision.observe(seconds)

    def watch(self, connections: Callable[[], Mapping[str, int]], journal: Callable[[], JournalStatus]) -> None:
        """Ask these at each scrape: open connections by OCPP version, and the journal's state."""
        self._connections, self._journal = connections, journal

    def watch_tls(self, ends: Callable[[], Iterable[tuple[str, str, float]]]) -> None:
        """Ask for the TLS files in use at each scrape: (certificate, ca or crl; subject or issuer; when it ends)."""
        self._tls_ends = ends

    def watch_relay(self, lag: Callable[[], tuple[int, float]]) -> None:
        """Ask at each scrape how many events are not shipped yet, and for the age of the oldest of them (seconds)."""
        self._relay_lag = lag

    def exposition(self) -> bytes:
        """Everything in the Prometheus text format (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)

    def _collect(self) -> Iterator[Metric]:
        yield _gauge("ocppgw_build_info", "The running software; always 1.", 1, self._build)
        yield self._connection_gauge()
        for counts in (
            self._received,
            self._handshakes,
            self._call_errors,
            self._bad_frames,
            self._notes,
            self._repairs,
        ):
            yield counts.metric()
        for counts in (self._events, self._commands, self._closes, self._left_out, self._tls, self._reloads):
            yield counts.metric()
        for counts in (self._shipped, self._relay_failures, self._intake, self._decisions):
            yield counts.metric()
        for buckets in (self._answer, self._commit, self._batch, self._decision):
            yield buckets.metric()
        yield self._tls_gauge()
        if self._journal is not None:
            yield from _journal_gauges(self._journal())
        if self._relay_lag is not None:
            records, seconds = self._relay_lag()
            yield _gauge("ocppgw_relay_lag_records", "Events that are not shipped to Kafka yet.", records)
            yield _gauge("ocppgw_relay_lag_seconds", "Age of the oldest of them.", seconds)

    def _tls_gauge(self) -> GaugeMetricFamily:
        help_text = "When a certificate or CRL in use ends, seconds since the epoch."
        family = GaugeMetricFamily("ocppgw_tls_not_after_seconds", help_text, labels=["kind", "name"])
        for kind, name, at in self._tls_ends():
            family.add_metric([kind, name], at)
        return family

    def _connection_gauge(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily("ocppgw_connections", "Open station connections.", labels=["version"])
        counts = dict.fromkeys(sorted(self._versions), 0) | dict(self._connections())
        for version, count in counts.items():
            family.add_metric([version], count)
        return family


def _received_counts(actions: Mapping[str, Collection[str]]) -> Counts:
    """A counter with every known label set at zero, so that a rate exists from the first message on."""
    counts = Counts("ocppgw_messages_received", "CALLs and SENDs received from stations.", ("version", "action"))
    for version, names in actions.items():
        for action in (*names, OTHER):
            counts.values[version, action] = 0
    counts.values[OTHER, OTHER] = 0
    return counts


def _gauge(name: str, help_text: str, value: float, labels: Mapping[str, str] | None = None) -> GaugeMetricFamily:
    labels = labels or {}
    family = GaugeMetricFamily(name, help_text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _journal_gauges(status: JournalStatus) -> Iterator[GaugeMetricFamily]:
    prefix = "ocppgw_journal"
    yield _gauge(f"{prefix}_healthy", "1 when the journal can be written, else 0.", status.healthy)
    yield _gauge(f"{prefix}_waiting_records", "Records not yet durable.", status.waiting)
    yield _gauge(f"{prefix}_oldest_wait_seconds", "Age of the oldest of them.", status.oldest_wait_seconds)
    yield _gauge(f"{prefix}_last_cursor", "Cursor of the newest durable event.", status.last_cursor)
    yield _gauge(f"{prefix}_oldest_cursor", "Cursor of the oldest event kept.", status.oldest_cursor)
    yield _gauge(f"{prefix}_size_bytes", "The journal's size on disk.", status.bytes_on_disk)
