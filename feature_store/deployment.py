"""`Deployment`: one environment's declarations and settings, and its lake, Redis and logs, opened when they are first needed."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Self

from feature_store.registry import Registry, load_registry
from feature_store.settings import Settings
from feature_store.transforms.compiled import Compiled, compile_registry

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.clock import Clock
    from feature_store.lake import Lake
    from feature_store.log.protocol import EventLog
    from feature_store.reader import FeatureReader


class Deployment:
    """What a store stands on. Close it, or use it with `with`; what is needed again opens again."""

    def __init__(
        self, registry: Registry | None = None, *, settings: Settings | None = None, clock: Clock | None = None
    ) -> None:
        """Check the declarations; nothing is opened yet.

        Args:
            registry: by default the one that the setting `declarations` names.
            settings: from the environment by default.
            clock: the settings' clock by default, which is the machine's.

        Raises:
            SettingsError: the registry cannot be found.
            DeclarationError: everything that is wrong with the declarations.
        """
        self.settings = settings or Settings()
        self.clock = clock or self.settings.clock
        self.registry = registry if registry is not None else load_registry(self.settings.declarations)
        self.compiled: Compiled = compile_registry(self.registry)
        self._opened = ExitStack()
        self._logs: dict[str, EventLog] = {}

    @property
    def env(self) -> str:
        """The environment."""
        return self.settings.environment

    @cached_property
    def lake(self) -> Lake:
        """The lake, opened on first use."""
        from feature_store.lake import Lake, LakeLocation

        memory = self.settings.batch_memory_mb
        lake = Lake.open(
            LakeLocation.of(self.settings),
            env=self.env,
            clock=self.clock,
            threads=self.settings.batch_threads,
            memory_limit=None if memory is None else f"{memory}MB",
        )
        return self._opened.enter_context(lake)

    @cached_property
    def redis(self) -> Redis:
        """A client of the online store and the log.

        Raises:
            OnlineStoreError: its address cannot be read.
        """
        from feature_store.online.address import connect, disconnect

        client = connect(self.settings.redis_url)
        self._opened.callback(disconnect, client)
        return client

    def log(self, source: str) -> EventLog:
        """The log of a source, opened on first use.

        Raises:
            InputError: it has none.
            LogError: something that it needs is not there.
        """
        from feature_store.log.binding import open_log

        if source not in self._logs:
            self._logs[source] = open_log(self.redis, self.env, self.registry.source(source))
        return self._logs[source]

    def reader(self) -> FeatureReader:
        """A reader of this environment, with the declared on-demand functions; the caller closes it."""
        from feature_store.reader import FeatureReader

        return FeatureReader(self.settings.redis_url, env=self.env, clock=self.clock, functions=self.registry)

    @cached_property
    def _reader(self) -> FeatureReader:
        reader = self.reader()
        self._opened.callback(reader.close)
        return reader

    def close(self) -> None:
        """Close what was opened."""
        self._opened.close()
        for name in ("lake", "redis", "_reader"):
            self.__dict__.pop(name, None)
        self._logs.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
