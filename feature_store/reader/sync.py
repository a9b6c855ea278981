"""The blocking reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from feature_store.clock import Clock, SystemClock
from feature_store.reader.core import AsOf, Features, Read, ReaderCore, Row, as_of_each
from feature_store.reader.transport import ClientTransport, SocketTransport, Transport
from feature_store.reader.vector import FeatureVector

if TYPE_CHECKING:
    from redis import Redis


class FeatureReader:
    """Reads the features of an environment; threads may share it.

    Args:
        url: of Redis (`redis://`, `rediss://`, `unix://`), or a client of redis-py.
        env: the environment.
        clock: what `now` is; a replay brings its own.
        timeout_s: how long to wait for Redis; a client of redis-py has its own.
    """

    def __init__(
        self, url: str | Redis, *, env: str = "dev", clock: Clock | None = None, timeout_s: float = 2.0
    ) -> None:
        self._core = ReaderCore(env, clock or SystemClock())
        self._transport: Transport = (
            SocketTransport(url, timeout_s=timeout_s, on_lost=self._core.connection_lost)
            if isinstance(url, str)
            else ClientTransport(url, on_lost=self._core.connection_lost)
        )

    def get_online_features(self, features: Features, row: Row, *, as_of: AsOf = None) -> FeatureVector:
        """The features of one row, in one round trip.

        Args:
            features: a service (`name`, which stays at the newest version of the first read, or `name@version`), or
                a list of `view:feature`.
            row: the join keys of all entities of the service; other columns are ignored.
            as_of: the time asked: an aware datetime or microseconds. Without it each view answers for now.

        Raises:
            UnknownNameError: the service, a view or a feature is not published.
            InputError: a join key is missing, or `as_of` is naive.
            OnlineStoreError: Redis cannot be reached, or a value is STALE or AHEAD where the service forbids it.
        """
        return self.get_online_features_batch(features, [row], as_of=as_of)[0]

    def get_online_features_batch(
        self, features: Features, rows: Sequence[Row], *, as_of: AsOf | Sequence[AsOf] = None
    ) -> list[FeatureVector]:
        """The features of many rows, in their order, in one round trip; `as_of` is one time or one for each row."""
        return self._run(self._core.read(features, rows, as_of_each(as_of, len(rows))))

    def close(self) -> None:
        """Close the connections that this reader opened."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, read: Read) -> list[FeatureVector]:
        exchange = self._transport.exchange
        try:
            commands = next(read)
            while True:
                replies = exchange(commands)
                del commands  # before the replies become vectors: fewer containers at once
                commands = read.send(replies)
        except StopIteration as done:
            vectors: list[FeatureVector] = done.value
            return vectors
