"""The reader for asyncio: the same reads, awaited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from feature_store.clock import Clock, SystemClock
from feature_store.computed.functions import Runs
from feature_store.errors import OnlineStoreError
from feature_store.reader.batch import FeatureBatch
from feature_store.reader.core import AsOf, Features, ReaderCore, Row, as_of_each
from feature_store.reader.given import Declared, functions_of
from feature_store.reader.sample import PAUSE_S, Sampled, ServedSample
from feature_store.reader.servers import refuse_timeout, servers_of
from feature_store.reader.vector import FeatureVector

if TYPE_CHECKING:
    import asyncio

    from feature_store.reader.servers import AsyncClient


class AsyncFeatureReader:
    """Reads the features of an environment; tasks of one event loop may share it.

    Args:
        url: of Redis, or a client of `redis.asyncio`, as for `FeatureReader`.
        env: the environment.
        clock: what `now` is; a replay brings its own.
        timeout_s: how long to wait for Redis; a client has its own.
        log_served: as for `FeatureReader`.
        functions: as for `FeatureReader`. They run in the event loop, so they should be quick.
    """

    def __init__(
        self,
        url: str | AsyncClient,
        *,
        env: str = "dev",
        clock: Clock | None = None,
        timeout_s: float = 2.0,
        log_served: bool = True,
        functions: Declared = (),
    ) -> None:
        from feature_store.reader.async_transport import transport_to

        self._sample = ServedSample(env)
        self._pushing: asyncio.Task[None] | None = None
        refuse_timeout(timeout_s)
        self._core = ReaderCore(
            env,
            clock or SystemClock(),
            self._sample if log_served else None,
            functions_of(functions),
            servers=servers_of(url, asyncio=True),
        )
        self._transport = transport_to(url, timeout_s=timeout_s, on_lost=self._core.connection_lost)

    async def get_online_features(self, features: Features, row: Row, *, as_of: AsOf = None) -> FeatureVector:
        """As `FeatureReader.get_online_features`."""
        return (await self.get_online_features_batch(features, [row], as_of=as_of))[0]

    async def get_online_features_batch(
        self, features: Features, rows: Sequence[Row], *, as_of: AsOf | Sequence[AsOf] = None
    ) -> FeatureBatch:
        """As `FeatureReader.get_online_features_batch`."""
        read, exchange = self._core.read(features, rows, as_of_each(as_of, len(rows))), self._transport.exchange
        try:
            commands = next(read)
            while True:
                replies = await exchange(commands)
                del commands  # before the replies become vectors: fewer containers at once
                commands = read.send(replies)
        except StopIteration as done:
            vectors: list[FeatureVector] = done.value
        if self._sample and (self._pushing is None or self._pushing.done()):
            import asyncio

            self._closing = asyncio.Event()
            self._pushing = asyncio.get_running_loop().create_task(self._push_soon())
        return FeatureBatch(vectors)

    @property
    def sampled(self) -> Sampled:
        """As `FeatureReader.sampled`."""
        return self._sample.counts

    @property
    def runs(self) -> Mapping[str, Runs]:
        """As `FeatureReader.runs`."""
        return self._core.functions.runs

    async def _push_soon(self) -> None:
        import asyncio

        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), PAUSE_S)
        await self._push()

    async def _push(self) -> None:
        while commands := self._sample.take():
            try:
                await self._transport.exchange(commands)
            except OnlineStoreError as error:
                self._sample.refused(commands, error)
            else:
                self._sample.pushed(commands)

    async def close(self) -> None:
        """Push what waits of the sample, and close the connections that this reader opened."""
        if self._pushing is not None and not self._pushing.done():
            self._closing.set()
            await self._pushing
        await self._push()
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
