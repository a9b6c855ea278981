"""A real Kafka for the tests: Apache Kafka in KRaft mode, one node, from jars that Maven keeps."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from guardian import MARK

from feature_store.embedded import free_ports

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

VERSION = "4.1.1"
HOST = "127.0.0.1"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "feature-store-tests" / f"kafka-{VERSION}"
USER, PASSWORD = "reader", "river-stone"
START_S = 90

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>tests</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
</dependency></dependencies></project>
"""

_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAIN://{host}:{port},SASL://{host}:{sasl},CONTROLLER://{host}:{controller}
advertised.listeners=PLAIN://{host}:{port},SASL://{host}:{sasl}
listener.security.protocol.map=PLAIN:PLAINTEXT,SASL:{protocol},CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAIN
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  user_{user}="{password}";
log.dirs={logs}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
controlled.shutdown.enable=false
num.network.threads=2
num.io.threads=2
background.threads=1
log.cleaner.enable=false
log.retention.ms=-1
num.recovery.threads.per.data.dir=1
broker.heartbeat.interval.ms=300
broker.session.timeout.ms=3000
"""
_TLS = """
listener.name.sasl.ssl.keystore.type=PEM
listener.name.sasl.ssl.keystore.location={pem}
"""


def missing() -> str | None:
    """Why no broker can be started here; None if one can."""
    absent = [program for program in ("java", *(() if _jars() else ("mvn",))) if shutil.which(program) is None]
    return f"{' and '.join(absent)} not found" if absent else None


class KafkaBroker:
    """One broker on free ports of the loopback: plain text, and SASL (over TLS with a certificate)."""

    def __init__(self, directory: Path, *, certificate: Path | None = None) -> None:
        """`certificate` is a PEM file of a private key and its certificate."""
        self.directory = directory
        self.logs = directory / "logs"
        self._port, self._sasl_port, self._controller = free_ports(3)
        self.servers, self.sasl_servers = f"{HOST}:{self._port}", f"{HOST}:{self._sasl_port}"
        self._certificate = certificate
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the broker is not running")
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        properties = self.directory / "server.properties"
        if not properties.exists():
            properties.write_text(self._properties())
            self._java("kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", str(properties))
        with (self.directory / "broker.log").open("ab") as output:
            # Other workers use it, too: it does not end with the one that started it.
            environment = {name: value for name, value in os.environ.items() if name != MARK}
            self._process = subprocess.Popen(
                _command("kafka.Kafka", str(properties)),
                cwd=self.directory,
                env=environment,
                stdout=output,
                stderr=output,
            )
        self._wait_until_up()

    def kill(self) -> None:
        """End it at once; what it wrote is in the page cache."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _properties(self) -> str:
        text = _PROPERTIES.format(
            host=HOST,
            port=self._port,
            sasl=self._sasl_port,
            controller=self._controller,
            protocol="SASL_PLAINTEXT" if self._certificate is None else "SASL_SSL",
            user=USER,
            password=PASSWORD,
            logs=self.logs,
        )
        return text if self._certificate is None else text + _TLS.format(pem=self._certificate)

    def _java(self, *arguments: str) -> None:
        done = subprocess.run(_command(*arguments), cwd=self.directory, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{arguments[0]} failed: {done.stdout}{done.stderr}")

    def _wait_until_up(self) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                topics = admin.list_topics(timeout=1).topics.values()
            except KafkaException:
                continue
            if all(part.leader >= 0 for topic in topics for part in topic.partitions.values()):
                return
            time.sleep(0.05)
        raise RuntimeError(f"Kafka does not start: {(self.directory / 'broker.log').read_text()[-2000:]}")


class SharedBroker(NamedTuple):
    """Where the broker of all workers answers."""

    servers: str
    sasl_servers: str
    authority: str
    """The certificate that vouches for the TLS listener, a file."""

    def admin(self) -> AdminClient:
        return _admin(self.servers)

    def topic(self, *, partitions: int = 1, name: str | None = None, **config: str) -> str:
        """Make a topic; returns its name."""
        from confluent_kafka.admin import NewTopic

        made = name or f"t{uuid.uuid4().hex[:12]}"
        options = {key.replace("_", "."): value for key, value in config.items()}
        self.admin().create_topics([NewTopic(made, partitions, 1, config=options)])[made].result()
        while not self._knows(made):
            time.sleep(0.02)
        return made

    def _knows(self, topic: str) -> bool:
        """Whether the broker has heard of a topic, of which the controller knows."""
        from confluent_kafka import KafkaException, TopicCollection

        try:
            found = self.admin().describe_topics(TopicCollection([topic]))[topic].result()
        except KafkaException:
            return False
        return all(partition.leader is not None for partition in found.partitions)

    def delete(self, topic: str) -> None:
        self.admin().delete_topics([topic])[topic].result()

    def drop_before(self, topic: str, n: int, *, partition: int = 0) -> None:
        """What retention does."""
        from confluent_kafka import TopicPartition

        place = TopicPartition(topic, partition, n)
        self.admin().delete_records([place])[place].result()


@cache
def _admin(servers: str) -> AdminClient:
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": servers, "log_level": 0})


_STARTED: list[KafkaBroker] = []
"""Brokers of this process, which may live on for another."""


@contextmanager
def shared(directory: Path) -> Iterator[SharedBroker]:
    """The broker of all processes that name this directory: the first starts it, the last ends it."""
    state, lock = directory / "kafka.json", directory / "kafka.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = json.loads(state.read_text()) if state.exists() else None
        if found is None:
            certificate, authority = make_certificate(directory / "tls")
            broker = KafkaBroker(directory / f"kafka-{uuid.uuid4().hex[:6]}", certificate=certificate)
            broker.start()
            _STARTED.append(broker)
            found = {"users": 0, "pid": broker.pid, "where": [broker.servers, broker.sasl_servers, str(authority)]}
        state.write_text(json.dumps(found | {"users": found["users"] + 1}))
    try:
        yield SharedBroker(*found["where"])
    finally:
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            found = json.loads(state.read_text())
            if found["users"] == 1:
                state.unlink()
                _end(found["pid"])
            else:
                state.write_text(json.dumps(found | {"users": found["users"] - 1}))


def _end(pid: int) -> None:
    """End a broker, of this process or of another."""
    for broker in _STARTED:
        if broker.pid == pid:
            broker.kill()
            return
    os.kill(pid, signal.SIGKILL)


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A server's key and certificate in one file, and the certificate alone, which clients trust."""
    directory.mkdir(parents=True, exist_ok=True)
    key, certificate, both = (directory / name for name in ("key.pem", "certificate.pem", "both.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={HOST}"]
    subprocess.run([*command, "-addext", f"subjectAltName=IP:{HOST}"], check=True, capture_output=True)
    both.write_text(key.read_text() + certificate.read_text())
    return both, certificate


def _command(*arguments: str) -> list[str]:
    flags = ["-Xmx256m", "-Xshare:auto", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return ["java", *flags, "-cp", f"{_fetched_jars()}/*", *arguments]


def _jars() -> Path | None:
    return CACHE / "libs" if (CACHE / "complete").exists() else None


def _fetched_jars() -> Path:
    """Kafka's jars, fetched once by Maven into a cache outside the repository."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _jars() is None:
            (CACHE / "pom.xml").write_text(_POM)
            fetch = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"]
            done = subprocess.run(fetch, cwd=CACHE, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"Maven cannot fetch Kafka: {done.stdout[-2000:]}{done.stderr[-500:]}")
            (CACHE / "complete").touch()
    return CACHE / "libs"


def _cluster_id() -> str:
    # A first byte of 0 keeps it from beginning with a dash, which would be an option.
    return base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
