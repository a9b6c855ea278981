"""One shard of the stream: `fold(batch, now) -> writes` is the only way to its state. No engine, no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from feature_store.fold.split import ShardBatch, ViewRows
from feature_store.fold.state import ViewState
from feature_store.fold.unwritten import Unwritten
from feature_store.online.commits import CommitRecord
from feature_store.online.keys import features_prefix
from feature_store.online.layout import view_layout
from feature_store.online.packed import ERROR
from feature_store.online.packing import Changes, Column, encode_columns, encode_own
from feature_store.online.ready import EXPIRY_SLACK_US, Positions
from feature_store.online.writer import Write
from feature_store.status import Status
from feature_store.time_rule import BEGINNING_US, EARLIEST_US, SECOND_US, tail_us
from feature_store.transforms.catalogue import Ints, Values
from feature_store.transforms.plan import ViewPlan
from feature_store.transforms.steps import FOREVER_US, FeatureSteps, ViewSteps

REFRESH_US = 30 * SECOND_US
"""Values are written anew at least this long before they cease to be valid."""

PORTION = 20_000
"""Entities of a view that a fold writes, at most, beside those that must be written now."""

_PRESENT, _ERROR = int(Status.PRESENT), int(Status.ERROR)
_NEVER_MS = 10 * 365 * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Writes:
    """What a fold wants written: absolute values, and the commit that says what they know."""

    values: Sequence[Write]
    commit: CommitRecord


class Shard:
    """The state of one shard, over all stream views."""

    def __init__(self, plans: Sequence[ViewPlan], *, env: str, shard: int, run: int) -> None:
        """A shard that knows nothing yet.

        Args:
            plans: the stream views.
            env: part of every key written.
            shard: its number.
            run: identifies this life of the flow; (run, n) of a value names the commit that wrote it.
        """
        self.shard, self.run, self.n = shard, run, 0
        self.views = {plan.view.id: ViewState(plan) for plan in plans}
        self._layouts = {plan.view.id: view_layout(plan).layout_id for plan in plans}
        self._prefixes = {
            plan.view.id: features_prefix(env, plan.view.entity.name, personal=plan.view.is_personal) for plan in plans
        }
        self._positions: dict[str, dict[int, int]] = {}
        self._unwritten = Unwritten()
        self._pending: dict[str, Ints] = {}
        self._waiting: dict[str, list[ViewRows]] = {}
        self._last_us: int | None = None

    @property
    def positions(self) -> Mapping[str, Mapping[int, int]]:
        """Source -> partition -> the next offset that the state does not know."""
        return self._positions

    @property
    def layouts(self) -> Mapping[str, int]:
        """The layout of each view."""
        return self._layouts

    @property
    def pending(self) -> AbstractSet[str]:
        """The views some of whose entities have not been written since `start_at` or `start_over`."""
        return self._pending.keys()

    def start_at(self, positions: Mapping[str, Mapping[int, int]]) -> None:
        """Say what the state knows after a rebuild; every entity will be written by the coming folds."""
        self._positions = {source: dict(known) for source, known in positions.items()}
        self.start_over()

    def start_over(self) -> None:
        """Let the coming folds write every entity, a portion each, and none before the others."""
        self._unwritten.clear()
        self._mark_pending()

    def believe(self, positions: Positions, now_us: int, *, views: Iterable[str]) -> None:
        """Believe what somebody has written of some views who had read to these positions when it folded at `now_us`.

        The next fold writes what was touched by anything later, the coming ones every entity, a portion each.
        """
        sources = {self.views[view].plan.view.source.name for view in views}
        self._unwritten.drop_known(positions, now_us, sources=sources)
        self._mark_pending()

    def _mark_pending(self) -> None:
        self._pending = {name: np.arange(len(state.keys)) for name, state in self.views.items() if state.keys}

    def touch(self, batch: ShardBatch, now_us: int) -> None:
        """Let the next fold write the entities of these rows, which the state knows since `now_us`."""
        touched = {name: np.unique(self.views[name].number(rows.keys)[rows.key]) for name, rows in batch.views.items()}
        self._unwritten.add(touched, self._commit(now_us))

    def hold(self, batch: ShardBatch) -> None:
        """Take in rows whose time has not come, as a rebuild finds them; the positions know them already."""
        for name, rows in batch.views.items():
            self._waiting.setdefault(name, []).append(rows)

    def fold(
        self, batches: Sequence[ShardBatch], now_us: int, *, catching_up: bool = False, portion: int = PORTION
    ) -> Writes:
        """Take events in and say what must be written.

        Args:
            batches: rows of this shard, in the order of each log; empty for a tick.
            now_us: the time of the flow's clock. Events stamped later wait until it has passed.
            catching_up: write nothing yet; the first fold without it writes everything touched since. Readers then
                never see an older value after a newer one.
            portion: how many of the entities of each view that are pending are written, too.
        """
        touched = self._take_in(batches, now_us)
        self.n += 1
        commit, values = self._commit(now_us), list[Write]()
        if catching_up:
            self._unwritten.add(touched, commit)
        else:
            margin = REFRESH_US + 3 * max(0, now_us - (self._last_us if self._last_us is not None else now_us))
            for name, state in self.views.items():
                due = [
                    state.ending_before(now_us + margin),
                    self._portion(name, portion),
                    self._unwritten.take(name),
                ]
                if name in touched:
                    due.append(touched[name])
                values.extend(self._refresh(name, state, np.unique(np.concatenate(due)), now_us=now_us))
        self._last_us = now_us
        return Writes(values=values, commit=commit)

    def _portion(self, name: str, size: int) -> Ints:
        """Some of the entities that are still to be written."""
        left = self._pending.pop(name, None)
        if left is None:
            return np.zeros(0, dtype=np.int64)
        if len(left) > size:
            self._pending[name] = left[size:]
        return left[:size]

    def _take_in(self, batches: Sequence[ShardBatch], now_us: int) -> dict[str, Ints]:
        rows = {name: list(waiting) for name, waiting in self._waiting.items()}
        self._waiting = {}
        for batch in batches:
            self._positions.setdefault(batch.source, {}).update(batch.positions)
            for name, more in batch.views.items():
                rows.setdefault(name, []).append(more)
        touched: dict[str, list[Ints]] = {}
        for name, parts in rows.items():
            for part in parts:
                ready = self._hold_back(name, part, now_us)
                if ready is not None:
                    touched.setdefault(name, []).append(self.views[name].add(ready))
        return {name: np.unique(np.concatenate(parts)) for name, parts in touched.items()}

    def _hold_back(self, name: str, rows: ViewRows, now_us: int) -> ViewRows | None:
        """The rows whose time has come; the others wait for a later fold."""
        early = rows.time >= now_us
        if not early.any():
            return rows
        self._waiting.setdefault(name, []).append(_chosen(rows, np.flatnonzero(early)))
        return None if early.all() else _chosen(rows, np.flatnonzero(~early))

    def _refresh(self, name: str, state: ViewState, entities: Ints, *, now_us: int) -> list[Write]:
        state.forget(now_us)
        if len(entities) == 0:
            return []
        steps = state.steps(entities, now_us)
        values = self._encode(state, steps, _ages(state.plan, steps, now_us), entities)
        prefix, keys = self._prefixes[name], state.keys
        expiries = _expire_ms(state, steps, now_us)
        return [
            Write(f"{prefix}{keys[number]}}}", name, value, expire)
            for number, value, expire in zip(entities.tolist(), values, expiries, strict=True)
        ]

    def _encode(self, state: ViewState, steps: ViewSteps, ages: Sequence[int | None], entities: Ints) -> list[bytes]:
        view = state.plan.view
        from_us = np.maximum(steps.from_us, EARLIEST_US)  # what never changed has held since there are times
        base_s = from_us // SECOND_US
        until_s = np.where(steps.until_us >= FOREVER_US, 0, steps.until_us // SECOND_US - base_s)
        return encode_columns(
            self._layouts[view.id],
            self.run,
            self.n,
            from_us.tolist(),
            ages,
            until_s.tolist(),
            [_column(feature, base_s) for feature in steps.features],
            _own(state, entities) if view.score_own_event else None,
        )

    def _commit(self, now_us: int) -> CommitRecord:
        positions = {source: dict(known) for source, known in self._positions.items()}
        return CommitRecord(shard=self.shard, run=self.run, n=self.n, positions=positions, now_us=now_us)


def _column(steps: FeatureSteps, base_s: Ints) -> Column:
    """A feature of every entity: its first value, and what it becomes later."""
    values = _plain_values(steps.values)
    starts, counts = steps.first[:-1], np.diff(steps.first)
    if len(values) == len(starts):
        return Column(values)
    rows = np.repeat(np.arange(len(starts)), counts)
    is_later = np.ones(len(values), dtype=bool)
    is_later[starts] = False
    later = np.flatnonzero(is_later)
    seconds = steps.since_us[later] // SECOND_US - base_s[rows[later]]
    return Column(
        [values[start] for start in starts.tolist()],
        Changes(rows[later], seconds, [values[i] for i in later.tolist()]),
    )


def _own(state: ViewState, entities: Ints) -> list[bytes | None]:
    """What each entity's features were just before its newest event; None where that is not known any more."""
    found, known = state.before_own(entities)
    columns = [_plain_values(found[feature.feature.name]) for feature in state.plan.features]
    rows = zip(*columns, strict=True)
    return [encode_own(row) if is_known else None for row, is_known in zip(rows, known.tolist(), strict=True)]


def _plain_values(found: Values) -> list[object]:
    values: list[object] = found.values.tolist()
    status = found.status
    for row in np.flatnonzero(status != _PRESENT).tolist():
        values[row] = None
    for row in np.flatnonzero(status == _ERROR).tolist():
        values[row] = ERROR
    return values


def _ages(plan: ViewPlan, steps: ViewSteps, now_us: int) -> list[int | None]:
    """How long before its beginning the newest event of each value happened; None if there is none, or if it has left
    every window: then it depends on when the state was rebuilt whether it is still known.
    """
    oldest_us = min(tail_us(now_us, feature.window_us, feature.hop_us) for feature in plan.view.declared)
    ages: list[int | None] = (steps.from_us - steps.newest_us).tolist()
    for row in np.flatnonzero((steps.newest_us < oldest_us) | (steps.newest_us <= BEGINNING_US)).tolist():
        ages[row] = None
    return ages


def _expire_ms(state: ViewState, steps: ViewSteps, now_us: int) -> list[int]:
    """How long each value can differ from a missing one: until its newest event has left the longest window."""
    longest = state.plan.view.longest_window_us
    if longest is None:
        return [_NEVER_MS] * len(steps.newest_us)
    left = np.maximum(steps.newest_us + longest - now_us, 0) + EXPIRY_SLACK_US
    return [int(milliseconds) for milliseconds in (left // 1000).tolist()]


def _chosen(rows: ViewRows, chosen: Ints) -> ViewRows:
    return ViewRows(
        keys=rows.keys,
        key=rows.key[chosen],
        time=rows.time[chosen],
        event_id=rows.event_id[chosen],
        columns={name: (values[chosen], valid[chosen]) for name, (values, valid) in rows.columns.items()},
    )
