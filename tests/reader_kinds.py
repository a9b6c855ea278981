"""Both readers behind one face, for tests of what stands behind them."""

import asyncio
import time

from feature_store.errors import OnlineStoreError
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


def read_until_answered(reads, rows):
    """The first answer, the errors before it and the seconds that the longest of all these reads took."""
    errors, longest, deadline = [], 0.0, time.monotonic() + PATIENCE_S
    while True:
        began = time.monotonic()
        assert began < deadline, errors
        try:
            found = reads.read(rows)
        except OnlineStoreError as error:
            found = None
            errors.append(str(error))
        longest = max(longest, time.monotonic() - began)
        if found is not None:
            return found, errors, longest
        time.sleep(0.02)
