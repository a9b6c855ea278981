"""Both readers behind one face, for tests of what stands behind them."""

import asyncio
import time

from feature_store.reader import AsyncFeatureReader, FeatureReader

PATIENCE_S = 20.0


class Blocking:
    """The blocking reader of a client or a URL."""

    def __init__(self, connect, clock, **options):
        self.client = connect(self)
        self.reader = FeatureReader(self.client, clock=clock, **options)
        self.transport = self.reader._transport

    def read(self, rows):
        """Value and status of the first feature of each row."""
        return shown(self.reader.get_online_features_batch("delay", rows))

    def take(self, pool):
        """A connection out of a pool."""
        return pool.get_connection()

    def give_back(self, pool, connection):
        """Return it."""
        pool.release(connection)

    def close(self):
        self.reader.close()
        if not isinstance(self.client, str):
            self.client.close()


class Awaited:
    """The reader for asyncio of a client or a URL, in a loop of its own."""

    def __init__(self, connect, clock, **options):
        self.loop = asyncio.new_event_loop()
        self.client = connect(self)
        self.reader = AsyncFeatureReader(self.client, clock=clock, **options)
        self.transport = self.reader._transport

    def read(self, rows):
        """Value and status of the first feature of each row."""
        return shown(self.loop.run_until_complete(self.reader.get_online_features_batch("delay", rows)))

    def take(self, pool):
        """A connection out of a pool."""
        return self.loop.run_until_complete(pool.get_connection())

    def give_back(self, pool, connection):
        """Return it."""
        self.loop.run_until_complete(pool.release(connection))

    def close(self):
        async def end():
            await self.reader.close()
            if not isinstance(self.client, str):
                await self.client.aclose()

        self.loop.run_until_complete(end())
        self.loop.close()


def shown(vectors):
    return [(vector.values[0], vector.statuses[0].name) for vector in vectors]


def until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
