"""Values as a reader has them: micro-batches, shards, packed bytes, decoded at the time asked.

Everything but Redis, the log and Bytewax is what runs in production. Most values are written some time before they are
read, so what is tested is the step function of time that a packed value is. A batch view's rows are the same fold, at
the time of the row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from feature_store.fold.split import Splitter
from feature_store.online.layout import ServiceLayout, view_layout
from feature_store.reader.computing import requested
from feature_store.reader.decode import decode_vectors
from feature_store.reader.plan import Fetch, ReadPlan, ViewRead, keys_of, plan_read
from feature_store.reader.readiness import Readiness, Vouched
from feature_store.reader.worth import Moment
from feature_store.testing.chance import chance
from feature_store.testing.micro_batches import Rejection, take_in
from feature_store.testing.online_values import ENV, OnlineValues, known_by
from feature_store.transforms.project import ARRIVED, ID, TIME

if TYPE_CHECKING:
    from feature_store.computed.functions import Functions
    from feature_store.declare.view import FeatureView
    from feature_store.reader.vector import FeatureVector
    from feature_store.testing.events import Given
    from feature_store.transforms.compiled import Compiled
    from feature_store.transforms.plan import ViewPlan


class StreamPath:
    """The stream of a replay, and a reader of it."""

    def __init__(self, compiled: Compiled, given: Mapping[str, Given], *, seed: int) -> None:
        self._compiled, self._seed = compiled, seed
        self._shards = chance(seed, "shards").choice([1, 2, 3])
        self._taken = {name: take_in(events, compiled.schemas[name], seed=seed) for name, events in given.items()}
        self._plans = {name: [_streamed(plan) for plan in compiled.plans_of(name)] for name in given}
        self._splitters: dict[str, Splitter] = {}
        # Layouts of views for training only are of their stream's form.
        served = {plan.view.id: plan for plans in self._plans.values() for plan in plans}
        self._layouts = {
            name: view_layout(plan if plan.view.is_batch else served[name]) for name, plan in compiled.plans.items()
        }

    @property
    def rejected(self) -> list[Rejection]:
        """The events that were not taken, by source and place."""
        return [rejection for taken in self._taken.values() for rejection in taken.rejected]

    def accepted(self, source: str) -> pa.Table:
        """The events that were taken, by id, with the same columns as `HistoryPath.accepted`."""
        events = pa.concat_tables(self._taken[source].batches)
        return events.select([*self._compiled.schemas[source].names, ID, TIME, ARRIVED]).sort_by(ID)

    def vector(
        self, service: ServiceLayout, row: Mapping[str, object], *, time_us: int, functions: Functions
    ) -> FeatureVector:
        """The vector of a service for one entity at a time.

        Raises:
            OnlineStoreError: a value is STALE or AHEAD, and the service says that this fails.
        """
        plan = plan_read(ENV, service, self._layouts)
        entities = keys_of(plan, [row])
        fetches = [fetch for fetch in plan.fetches if entities[fetch.entity] is not None]
        [vector] = decode_vectors(
            plan,
            entities,
            replies=self._replies(fetches, entities, time_us),
            moment=Moment(time_us, True, self._readiness(plan, time_us)),
            as_of=[time_us],
            requests=requested(plan, [row]),
            functions=functions,
        )
        return vector

    def _replies(
        self, fetches: Sequence[Fetch], entities: Sequence[str | None], time_us: int
    ) -> Iterator[list[bytes | None]]:
        stores: dict[tuple[str, int], OnlineValues] = {}
        for fetch in fetches:
            key = f"{fetch.prefix}{entities[fetch.entity]}}}"
            yield [self._packed(read, key, time_us, stores) for read in fetch.views]

    def _packed(
        self, read: ViewRead, key: str, time_us: int, stores: dict[tuple[str, int], OnlineValues]
    ) -> bytes | None:
        plan = self._compiled.plans[read.id]
        place = (plan.view.source.name, _effective_us(plan.view, time_us))
        if place not in stores:
            stores[place] = self._folded(*place, time_us)
        return stores[place].streamed(read.id, key) if read.is_stream else stores[place].published(plan, key)

    def _folded(self, source: str, until_us: int, asked_us: int) -> OnlineValues:
        plans = self._plans[source]
        if source not in self._splitters:
            self._splitters[source] = Splitter(source, plans, shards=self._shards)
        values = OnlineValues(self._splitters[source], plans, shards=self._shards, until_us=until_us)
        dice = chance(self._seed, source, until_us, asked_us)
        values.fold(known_by(self._taken[source].batches, asked_us), dice, early=until_us == asked_us)
        return values

    def _readiness(self, plan: ReadPlan, time_us: int) -> Readiness:
        """What the flow and the publisher would vouch for: all is read, all rows are there."""
        records = {str(shard): _vouched(plan.layouts, time_us) for shard in range(self._shards)}
        for fetch in plan.fetches:
            for read in fetch.views:
                if not read.is_stream:
                    step_us = _effective_us(self._compiled.plans[read.id].view, time_us)
                    records[read.id] = _vouched(plan.layouts, step_us)
        return Readiness(self._shards, records, time_us, 0.0)


def _streamed(plan: ViewPlan) -> ViewPlan:
    return replace(plan, view=replace(plan.view, online="stream"))


def _effective_us(view: FeatureView, time_us: int) -> int:
    """The time of the values: the time asked, or of a batch view's newest row."""
    return time_us // view.every_us * view.every_us if view.is_batch else time_us


def _vouched(layouts: Mapping[str, int], beat_us: int) -> Vouched:
    return Vouched(complete=True, known_us=beat_us, beat_us=beat_us, run=1, n=1, views=layouts)
