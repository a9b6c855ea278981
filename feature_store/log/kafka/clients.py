"""Clients of Kafka for one topic: what they are told, and what their refusals mean."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from feature_store.declare.log import ENV
from feature_store.errors import LogError, LogUnavailable

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Producer
    from confluent_kafka.admin import AdminClient

    from feature_store.declare.log import KafkaBinding

ANSWER_S = 10.0
"""How long to wait for an answer, with all attempts."""
_ATTEMPT_S, _PAUSE_S = 3.0, 0.1

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)

# What the connections say comes back with the errors; librdkafka's own lines about them would fill the log.
_COMMON = {"reconnect.backoff.max.ms": "1000", "log_level": "2"}
_CONSUMER = {
    "auto.offset.reset": "error",
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "enable.partition.eof": "true",
    "isolation.level": "read_committed",
}
_READING = {"fetch.queue.backoff.ms": "5", "fetch.wait.max.ms": "100", "queued.max.messages.kbytes": "16384"}
_PRODUCER = {"acks": "all", "enable.idempotence": "true"}
_PUBLISHING = {"delivery.timeout.ms": "30000", "linger.ms": "1"}


_REFUSED = ("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "_SSL", "UNSUPPORTED_SASL_MECHANISM")


class _Wire:
    """The last thing that went wrong on the connections. Clients hold on to it and to nothing that holds them: a client
    in a reference cycle would be destroyed by whichever thread collects it, and Kafka's own threads must not.
    """

    def __init__(self) -> None:
        self.trouble: KafkaError | None = None

    def noted(self, error: KafkaError) -> None:
        """Keep an error until an answer comes; that the brokers are away says less than that they refuse us."""
        if self.trouble is None or not _is(self.trouble, *_REFUSED):
            self.trouble = error


class KafkaClients:
    """Makes the clients of one topic and asks the cluster."""

    def __init__(self, binding: KafkaBinding, *, group: str) -> None:
        """Read the environment variables that the binding names; nothing connects yet.

        Raises:
            LogError: one is not set.
        """
        self.topic, self._group = binding.topic, group
        self.servers = self._value("bootstrap_servers", binding.bootstrap_servers)
        self._options = {name: self._value(f"option '{name}'", value) for name, value in binding.options}
        self._admin: AdminClient | None = None
        self._wire = _Wire()

    @property
    def trouble(self) -> str | None:
        """What the connections said since they were last known to work."""
        return None if self._wire.trouble is None else _plain(self._wire.trouble)

    def consumer(self, *, group: str | None = None, **callbacks: Callable[..., None]) -> Consumer:
        """One that reads what it is assigned, and joins no group; it may commit for one."""
        from confluent_kafka import Consumer

        config = _COMMON | _READING | self._options | _CONSUMER | {"group.id": group or self._group}
        return self._made(lambda given: Consumer(given | callbacks, logger=logger), config)

    def producer(self) -> Producer:
        """One whose retries write nothing twice."""
        from confluent_kafka import Producer

        return self._made(
            lambda given: Producer(given, logger=logger), _COMMON | _PUBLISHING | self._options | _PRODUCER
        )

    def ask(self, question: Callable[[AdminClient, float], Answer], *, answer_s: float | None = None) -> Answer:
        """What the cluster answers, after some attempts if need be. A question is told how long each may take.

        Raises:
            LogUnavailable: it does not.
            LogError: it refuses.
        """
        from confluent_kafka import KafkaException

        patience_s = answer_s or ANSWER_S
        deadline, attempt_s = time.monotonic() + patience_s, min(_ATTEMPT_S, patience_s)
        admin = self._connected()
        while True:
            try:
                answer = question(admin, attempt_s)
            except KafkaException as failed:
                refused = self._after(admin, failed.args[0], attempt_s)
                if not isinstance(refused, LogUnavailable) or time.monotonic() >= deadline:
                    raise refused from failed
                time.sleep(_PAUSE_S)
            else:
                self._wire.trouble = None
                return answer

    def _after(self, admin: AdminClient, error: KafkaError, attempt_s: float) -> LogError:
        """What an error means, after looking who leads now: the client would go on asking the leader that it knows."""
        from confluent_kafka import KafkaException

        if isinstance(self.refused(error), LogUnavailable):
            with contextlib.suppress(KafkaException):
                admin.list_topics(self.topic, timeout=attempt_s)
            admin.poll(0)  # brings what the connections have to say
        return self.refused(error)

    def refused(self, error: KafkaError) -> LogError:
        """What an error means to a user."""
        if _is(error, "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION"):
            return LogError(
                f"topic '{self.topic}' does not exist at Kafka {self.servers}; create it, or correct its name"
            )
        if _is(error, "TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"):
            return LogError(
                f"Kafka at {self.servers} does not allow topic '{self.topic}' or group '{self._group}' ({error.str()})"
            )
        cause = self._wire.trouble or error
        if _is(cause, *_REFUSED):
            return LogError(
                f"Kafka at {self.servers} refuses the connection for topic '{self.topic}' ({_plain(cause)}); correct "
                "`options` or the environment variables that they name"
            )
        return LogUnavailable(
            f"Kafka at {self.servers} does not answer for topic '{self.topic}' ({_plain(cause)}); is it running?"
        )

    def _connected(self) -> AdminClient:
        from confluent_kafka.admin import AdminClient

        if self._admin is None:
            self._admin = self._made(lambda given: AdminClient(given, logger=logger), _COMMON | self._options)
        return self._admin

    def _made(self, make: Callable[[dict[str, Any]], Answer], config: Mapping[str, str]) -> Answer:
        from confluent_kafka import KafkaException

        try:
            return make({**config, "bootstrap.servers": self.servers, "error_cb": self._wire.noted})
        except KafkaException as error:
            raise LogError(
                f"log `kafka` of topic '{self.topic}': `options` are wrong: {error.args[0].str()}"
            ) from error

    def _value(self, name: str, text: str) -> str:
        if not text.startswith(ENV):
            return text
        variable = text.removeprefix(ENV)
        value = os.environ.get(variable, "")
        if not value:
            raise LogError(
                f"environment variable '{variable}', named by {name} of the log of topic '{self.topic}', is not set"
            )
        return value


def _is(error: KafkaError, *names: str) -> bool:
    from confluent_kafka import KafkaError

    return error.code() in {getattr(KafkaError, name) for name in names}


def _plain(error: KafkaError) -> str:
    return " ".join(error.str().split())
