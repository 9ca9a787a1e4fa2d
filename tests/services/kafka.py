"""A real Apache Kafka of one node (KRaft: broker and controller in one process), and its own command line tools.

Clients use one listener, open or with TLS and SASL; a second, plain one is Kafka's and this class's own. Java takes the
classes it needs from an archive (class data sharing) when there is one: that halves the start.
"""

from __future__ import annotations

import base64
import subprocess
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.process import ROOT, TIME_LIMIT, ServiceProcess, free_ports

if TYPE_CHECKING:
    from ocppgw.pki import PkiFolder

INSTALLED = ROOT / ".services"
JARS = INSTALLED / "kafka"
ARCHIVE = INSTALLED / "kafka.jsa"
BASE = ROOT / "services" / "kafka.properties"
HOST = "127.0.0.1"

# The first compiler alone: a process that lives for seconds or minutes starts with half the CPU. What Java has to say
# itself goes to stderr: the output of the tools is read.
JAVA = ("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xlog:disable", "-Xlog:all=warning:stderr")
LOGGING = (
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn",  # 2,000 lines of settings
)
QUIET = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=error",)
TOOLS = "org.apache.kafka.tools"
SIGTERM_STATUS = 143  # what Java makes of SIGTERM after an orderly end

KeyValue = tuple[str, str]


class KafkaServer(ServiceProcess):
    """`port` 0: one that is free. `settings` are further broker properties; they win over services/kafka.properties.

    With `users` (name → password without comma or quote) clients log in by SASL, PLAIN or SCRAM-SHA-512. With `tls`
    they speak TLS; the certificate is the PKI's ECDSA one. With `client_certificate` they must show one, and the tools
    of this class show that one.
    """

    name = "kafka"
    clean_statuses = frozenset({SIGTERM_STATUS})

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        users: Mapping[str, str] | None = None,
        tls: PkiFolder | None = None,
        client_certificate: Path | None = None,
        settings: Mapping[str, str] | None = None,
        java_options: tuple[str, ...] = (),
    ) -> None:
        super().__init__(folder)
        chosen, self._internal_port, self._controller_port = free_ports(3)
        self.port = port or chosen
        self.users = dict(users or {})
        self.tls = tls
        self.config_path = self.folder / "server.properties"
        self.client_config_path = self.folder / "client.properties"
        self._client_certificate = client_certificate
        self._settings = dict(settings or {})
        self._java_options = java_options

    # --- using it

    @property
    def brokers(self) -> str:
        """For KAFKA_BROKERS."""
        return f"{HOST}:{self.port}"

    @property
    def security_protocol(self) -> str:
        """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        return ("SASL_" if self.users else "") + ("SSL" if self.tls else "PLAINTEXT")

    def create_topics(self, partitions: Mapping[str, int], settings: Mapping[str, str] | None = None) -> None:
        """Topic → number of its partitions; `settings` are for each, as `max.message.bytes`. Half a second a topic."""
        options = [word for name, value in (settings or {}).items() for word in ("--config", f"{name}={value}")]
        for topic, count in partitions.items():
            self._topics("--create", "--topic", topic, "--partitions", str(count), *options)

    def partitions(self) -> dict[str, int]:
        """Topic → number of its partitions, without Kafka's own topics."""
        output = self._topics("--describe", "--exclude-internal")
        fields = [
            dict(part.split(": ", 1) for part in line.split("\t") if ": " in part) for line in output.splitlines()
        ]
        return {each["Topic"]: int(each["PartitionCount"]) for each in fields if "PartitionCount" in each}

    def produce(self, topic: str, records: Iterable[KeyValue], time_limit: float = TIME_LIMIT) -> None:
        """With Kafka's console producer, as the first user, acks=all. AssertionError when it fails."""
        words = ["--topic", topic, "--request-required-acks", "all", "--reader-property", "parse.key=true"]
        lines = "".join(f"{key}\t{value}\n" for key, value in records)
        self.tool("ConsoleProducer", *self._client_words(), *words, stdin=lines, time_limit=time_limit)

    def consume(self, topic: str, count: int, time_limit: float = TIME_LIMIT) -> list[KeyValue]:
        """The first `count` records with Kafka's console consumer, as the first user. AssertionError when there are
        fewer after `time_limit`."""
        words = ["--topic", topic, "--from-beginning", "--max-messages", str(count), "--formatter-property"]
        words += ["print.key=true", "--timeout-ms", str(int(time_limit * 1000))]
        output = self.tool("consumer.ConsoleConsumer", *self._client_words(), *words, time_limit=time_limit + 10)
        lines = [line.split("\t", 1) for line in output.splitlines() if "\t" in line]
        assert len(lines) == count, f"{len(lines)} of {count} records in {topic}"
        return [(key, value) for key, value in lines]

    def tool(self, name: str, *words: str, stdin: str = "", time_limit: float = TIME_LIMIT) -> str:
        """What one of Kafka's own tools prints. AssertionError when it fails, or isn't done in time."""
        command = [*_java(*QUIET), f"{TOOLS}.{name}", *words]
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=time_limit, check=False)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{name} was not done within {time_limit} seconds") from None
        # The producer and the consumer log what went wrong, and exit with 0.
        assert done.returncode == 0 and " ERROR " not in done.stderr, f"{name}: {done.stderr}{done.stdout}"  # noqa: PT018
        return done.stdout

    def _topics(self, *words: str) -> str:
        return self.tool("TopicCommand", "--bootstrap-server", f"{HOST}:{self._internal_port}", *words)

    def _client_words(self) -> tuple[str, ...]:
        return ("--bootstrap-server", self.brokers, "--command-config", str(self.client_config_path))

    # --- the process

    def _command(self) -> list[str]:
        return [*_java(*LOGGING, *self._java_options, "-Xms64m", "-Xmx384m"), "kafka.Kafka", str(self.config_path)]

    def _write_config(self) -> None:
        for path, properties in ((self.config_path, self._properties()), (self.client_config_path, self._client())):
            path.touch(mode=0o600)  # there may be passwords in it
            path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))

    def _prepare_data(self) -> None:
        """An empty folder is formatted: it becomes a cluster of its own, with its SCRAM users."""
        if (self.data / "meta.properties").exists():
            return
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        words = ["format", "-t", cluster_id, "-c", str(self.config_path)]
        for user, password in self.users.items():
            words += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        command = [*_java(*QUIET), "kafka.tools.StorageTool", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
        assert done.returncode == 0, f"Kafka's storage was not formatted: {done.stderr}{done.stdout}"

    def _is_ready(self) -> bool:
        """It says so when clients are let in and its own log is recovered."""
        return "Kafka Server started" in self.log_of_this_life()

    def _properties(self) -> dict[str, str]:
        base = (line.split("=", 1) for line in BASE.read_text().splitlines() if line and not line.startswith("#"))
        client, internal = f"CLIENT://{HOST}:{self.port}", f"INTERNAL://{HOST}:{self._internal_port}"
        controller = f"{HOST}:{self._controller_port}"
        protocols = f"CLIENT:{self.security_protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
        return {
            **dict(base),
            "log.dirs": str(self.data),
            "listeners": f"{client},{internal},CONTROLLER://{controller}",
            "advertised.listeners": f"{client},{internal}",
            "controller.quorum.voters": f"1@{controller}",
            "listener.security.protocol.map": protocols,
            **self._sasl(),
            **self._tls(),
            **self._settings,
        }

    def _sasl(self) -> dict[str, str]:
        if not self.users:
            return {}
        known = " ".join(f'user_{user}="{password}"' for user, password in self.users.items())
        login = "org.apache.kafka.common.security"
        return {
            "listener.name.client.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.client.plain.sasl.jaas.config": f"{login}.plain.PlainLoginModule required {known};",
            "listener.name.client.scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
        }

    def _tls(self) -> dict[str, str]:
        if self.tls is None:
            return {}
        stores = _pem_stores(keys=self.tls.servers[1], trusted=self.tls.clients)
        return stores | {"ssl.client.auth": "required" if self._client_certificate else "none"}

    def _client(self) -> dict[str, str]:
        """How Kafka's own tools reach the clients' listener."""
        found = {"security.protocol": self.security_protocol}
        if self.users:
            user, password = next(iter(self.users.items()))
            login = f'username="{user}" password="{password}"'
            module = "org.apache.kafka.common.security.plain.PlainLoginModule"
            found |= {"sasl.mechanism": "PLAIN", "sasl.jaas.config": f"{module} required {login};"}
        if self.tls:
            found |= _pem_stores(trusted=self.tls.root, keys=self._client_certificate)
        return found


def make_archive() -> None:
    """Run a broker once, from its start to its end, so that Java writes down the classes it has loaded."""
    partial = ARCHIVE.with_suffix(".partial")
    with tempfile.TemporaryDirectory() as folder:
        kafka = KafkaServer(Path(folder), java_options=(f"-XX:ArchiveClassesAtExit={partial}",))
        with kafka:
            kafka.stop()
    partial.replace(ARCHIVE)


def _java(*options: str) -> list[str]:
    assert JARS.is_dir(), "Apache Kafka is not installed here: tools/install-services does it"
    archive = [f"-XX:SharedArchiveFile={ARCHIVE}"] if ARCHIVE.exists() else []
    return [*JAVA, *archive, *options, "-cp", f"{JARS}/*"]


def _pem_stores(trusted: Path, keys: Path | None = None) -> dict[str, str]:
    stores = {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(trusted)}
    if keys is not None:
        stores |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(keys)}
    return stores
