"""What is published in an environment, as a server needs it: looked up again every few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from feature_store.errors import OnlineStoreError, UnknownNameError
from feature_store.online.keys import layouts_key, services_key
from feature_store.online.layout import ViewLayout, layouts_in_use
from feature_store.reader.listed import list_service
from feature_store.reader.plan import plan_read
from feature_store.reader.route import services_of
from feature_store.reader.transport import as_hash
from feature_store.serving.shapes import ServiceShape, shape_of

if TYPE_CHECKING:
    from feature_store.reader.async_transport import AsyncTransport
    from feature_store.reader.plan import ReadPlan
    from feature_store.reader.route import Route
    from feature_store.serving.guard import Caller

AGE_S = 5.0
"""How long a server goes on with what it has looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Services and views as they were looked up."""

    served: Mapping[str, ServiceShape]
    """Bare name -> the version that is served under it."""
    beside: Mapping[str, ServiceShape]
    """Bare name -> the version that a share of the entities is served instead, while there is one."""
    versions: Mapping[str, ServiceShape]
    """`name@version` -> each version."""
    views: Mapping[str, ViewLayout]

    def shape(self, name: str) -> ServiceShape:
        """The shape of a service's requests, by name or by `name@version`.

        Raises:
            UnknownNameError: it is not published.
        """
        found = self.versions.get(name) if "@" in name else self.served.get(name)
        if found is None:
            raise UnknownNameError("service", name, self.versions if "@" in name else self.served)
        return found

    def kinds(self, features: str | Sequence[str], caller: Caller) -> dict[str, str]:
        """Feature -> the kind of its values, of all that a read may serve somebody: while a service is split, of both versions.

        Args:
            features: a service, or a list of features.
            caller: who asks.

        Raises:
            UnknownNameError: a service, view or feature is not published.
        """
        if not isinstance(features, str):
            names = plan_read("", list_service(features, self.views), self.views).names  # nothing is read by it
            return dict(zip(names.features, names.kinds, strict=True))
        beside = self.beside.get(features)
        told = {} if beside is None or not caller.sees_service(beside.name, beside.personal) else beside.features
        served = self.shape(features).features
        return {**served, **{name: kind for name, kind in told.items() if name not in served}}

    def versions_of(self, name: str) -> list[str]:
        """`name@version` of all versions of a service."""
        return [shape.id for shape in self.versions.values() if shape.name == name]

    def personal(self, view: str) -> bool | None:
        """Whether any version of a view holds personal data; None if there is no such view."""
        found = [layout.personal for layout in self.views.values() if layout.view == view]
        return any(found) if found else None

    def for_whom(self, caller: Caller) -> Publication:
        """What is described to somebody: the services that he can read, and their versions; all to who administers."""

        def seen(shapes: Mapping[str, ServiceShape]) -> dict[str, ServiceShape]:
            return {name: shape for name, shape in shapes.items() if caller.sees_service(shape.name, shape.personal)}

        beside = seen(self.beside)
        served = {name: shape for name, shape in seen(self.served).items() if (name in beside) == (name in self.beside)}
        views = {name: view for name, view in self.views.items() if caller.sees_view(view.view, personal=view.personal)}
        return Publication(served=served, beside=beside, versions=seen(self.versions), views=views)


@dataclass(slots=True)
class Published:
    """Looks up what is published, at most every few seconds and once at a time."""

    transport: AsyncTransport
    env: str
    _found: Publication | None = None
    _raw: tuple[dict[bytes, bytes], dict[bytes, bytes]] | None = None
    _until_s: float = 0.0
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def now(self) -> Publication:
        """What is published, not older than a few seconds; older while Redis does not answer.

        Raises:
            OnlineStoreError: Redis does not answer, and has not before.
        """
        if self._found is None or time.monotonic() >= self._until_s:
            async with self._looking:
                if self._found is None or time.monotonic() >= self._until_s:
                    await self._look()
        assert self._found is not None
        return self._found

    async def shape(self, name: str) -> ServiceShape:
        """As `Publication.shape`; what is not known is looked for again, once a second."""
        found = await self.now()
        try:
            return found.shape(name)
        except UnknownNameError:
            if time.monotonic() < self._until_s - AGE_S + 1:
                raise
            self._until_s = 0.0
        return (await self.now()).shape(name)

    async def described(self, name: str, caller: Caller) -> tuple[ServiceShape, Publication]:
        """As `shape`, for somebody to whom the service is described, with what else is.

        Raises:
            NotGranted: it is not.
            UnknownNameError: it is not published; lists what is described to him.
        """
        bare, may = name.partition("@")[0], caller.may
        caller.needs(f"service:{bare}", has=may.admin or may.service(bare))
        try:
            shape = await self.shape(name)
        except UnknownNameError as error:
            seen = (await self.now()).for_whom(caller)
            raise UnknownNameError("service", name, set(error.known) & {*seen.served, *seen.versions}) from None
        caller.reads_personal(() if may.admin else shape.personal)
        return shape, (await self.now()).for_whom(caller)

    async def personal(self, view: str) -> bool:
        """Whether a view holds personal data; one that is not known is looked for again, once a second.

        Raises:
            UnknownNameError: there is no such view.
        """
        found = await self.now()
        if found.personal(view) is None and time.monotonic() >= self._until_s - AGE_S + 1:
            self._until_s = 0.0
            found = await self.now()
        is_personal = found.personal(view)
        if is_personal is None:
            raise UnknownNameError("online view", view, {layout.view for layout in found.views.values()})
        return is_personal

    async def ask(self) -> None:
        """Whether Redis answers.

        Raises:
            OnlineStoreError: it does not.
        """
        await self.transport.exchange([("PING",)])

    async def _look(self) -> None:
        asked = [("HGETALL", services_key(self.env)), ("HGETALL", layouts_key(self.env))]
        try:
            services, layouts = map(as_hash, await self.transport.exchange(asked))
        except OnlineStoreError:
            self._until_s = time.monotonic() + 1
            if self._found is None:
                raise
            return
        self._until_s = time.monotonic() + AGE_S
        if (services, layouts) == self._raw:
            return
        views = layouts_in_use(layouts)
        if not views and self._found is not None:
            return  # a store that has lost what was published says nothing
        if not views:
            self._until_s = 0.0
            raise OnlineStoreError(
                f"nothing is published in the environment '{self.env}'; run `feature-store apply`, or name another"
            )
        routes, versions = services_of(self.env, services, views)
        self._found = Publication(
            served={name: shape_of(route.plan) for name, route in routes.items()},
            beside={name: shape_of(plan) for name, route in routes.items() if (plan := _split(route)) is not None},
            versions={each.service.id: shape_of(each) for each in versions},
            views=views,
        )
        self._raw = (services, layouts)


def _split(route: Route) -> ReadPlan | None:
    return route.beside if route.rollout is not None and route.rollout.mode == "split" else None
