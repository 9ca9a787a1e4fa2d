"""The bus on a Kafka that does not let everybody in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient, ScramMechanism, UserScramCredentialUpsertion

from ocppgw.errors import BusError
from ocppgw.ports import Outgoing
from tests.contract_bus import Reader
from tests.integration.certificates import Pki
from tests.integration.real_kafka import Log, RealKafka
from tests.services import KafkaServer

pytest_plugins = ("tests.integration.certificates", "tests.services.fixtures")

USER, PASSWORD = "gateway", "a password: with = and / and spaces"


@pytest.fixture(scope="module")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[KafkaServer]:
    mechanisms = {"listener.name.client.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"}
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    mechanisms["listener.name.client.scram-sha-256.sasl.jaas.config"] = login
    folder = tmp_path_factory.mktemp("secured-kafka")
    with KafkaServer(folder, users={USER: PASSWORD}, tls=pki.files, settings=mechanisms) as kafka:
        admin = KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{kafka._internal_port}")
        admin.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_256, PASSWORD)])
        admin.close()
        yield kafka


@pytest.fixture
def secured(secured_kafka: KafkaServer, pki: Pki) -> Iterator[RealKafka]:
    login = {"sasl_mechanism": "PLAIN", "sasl_username": USER, "sasl_password": PASSWORD}
    surroundings = RealKafka(secured_kafka, tls=True, tls_ca_path=str(pki.files.root), **login)
    yield surroundings
    surroundings.stop()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_bus_logs_in_over_tls(secured: RealKafka, mechanism: str) -> None:
    topic, reader = secured.topic(), Reader()
    bus = secured.bus(sasl_mechanism=mechanism)
    bus.consume([topic], f"group-of-{topic}", reader)
    bus.start()
    secured.running.append(bus)
    secured.reactor.wait(bus.ship([Outgoing(topic, "CP-1", b"1")]))
    secured.reactor.run_until(lambda: reader.values == [b"1"])
    secured.reactor.run_until(lambda: bus.status().healthy)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256"])
def test_a_wrong_password_is_called_so(secured: RealKafka, mechanism: str) -> None:
    topic = secured.topic()
    bus = secured.bus(sasl_mechanism=mechanism, sasl_password="not-the-password", ship_timeout=2.0)
    bus.consume([topic], f"group-of-{topic}", Reader())
    with Log() as log:
        bus.start()
        secured.running.append(bus)
        with pytest.raises(BusError, match=f"refuses user '{USER}' with {mechanism}"):
            secured.reactor.wait(bus.ship([Outgoing(topic, "CP-1", b"1")]))
        assert "refuses user" in bus.status().reason
        secured.stop()
    assert len(log.lines()) == 1, log.text
    assert "refuses user" in log.lines()[0]
    assert "not-the-password" not in log.text


def test_a_mechanism_that_the_broker_lacks_is_called_so(kafka_server: KafkaServer, secured: RealKafka) -> None:
    bus = secured.started(sasl_mechanism="OAUTHBEARER-NOT", ship_timeout=1.0)
    with pytest.raises(BusError, match="OAUTHBEARER-NOT"):
        secured.reactor.wait(bus.ship([Outgoing("topic", "CP-1", b"1")]))


def test_a_broker_that_can_not_be_trusted_is_called_so(secured: RealKafka) -> None:
    bus = secured.started(tls_ca_path="", ship_timeout=2.0, connection_timeout=1.0)
    with pytest.raises(BusError, match="certificate verify failed"):
        secured.reactor.wait(bus.ship([Outgoing("topic", "CP-1", b"1")]))


def test_a_tls_file_that_is_missing_is_named(secured: RealKafka) -> None:
    bus = secured.started(tls_ca_path="/no/such/file.pem", ship_timeout=1.0)
    with pytest.raises(BusError, match=r"CA file for Kafka can't be used: /no/such/file\.pem"):
        secured.reactor.wait(bus.ship([Outgoing("topic", "CP-1", b"1")]))
    assert "/no/such/file.pem" in bus.status().reason


def test_a_bus_shows_its_certificate(tmp_path: Path, pki: Pki) -> None:
    certificate = pki.station("kafka-client").path
    with KafkaServer(tmp_path, tls=pki.files, client_certificate=certificate) as kafka:
        around = RealKafka(kafka, tls=True, tls_ca_path=str(pki.files.root), connection_timeout=1.0)
        nameless = around.started(ship_timeout=2.0)
        topic = around.topic()
        with pytest.raises(BusError, match=r"(?i)certificate"):
            around.reactor.wait(nameless.ship([Outgoing(topic, "CP-1", b"1")]))
        bus = around.started(tls_cert_path=str(certificate))
        around.reactor.wait(bus.ship([Outgoing(topic, "CP-1", b"1")]))
        around.stop()
