"""Bytes in Redis: hashes of entities, some of them weighed, each weight divided among the features that it holds."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import msgspec

from feature_store.online.keys import layouts_key
from feature_store.online.layout import parse_layout
from feature_store.online.packed import decode_row

if TYPE_CHECKING:
    from redis import Redis

    from feature_store.online.layout import ViewLayout

SAMPLE = 500
"""Hashes of each entity that are weighed."""
_SCANNED = 1000
_encode = msgspec.msgpack.Encoder().encode
_Layouts = Mapping[tuple[str, int], "ViewLayout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineBytes:
    """What values take in Redis."""

    features: Mapping[str, float]
    """`view@version:feature` -> bytes."""
    unknown: Mapping[str, float]
    """`view@version` of values that no layout describes -> bytes."""
    hashes: int
    weighed: int


@dataclass(slots=True)
class _Hashes:
    """The hashes of one entity: how many, and a sample of them in which each is equally likely."""

    count: int = 0
    sample: list[bytes] = field(default_factory=list)

    def add(self, key: bytes, chance: random.Random, size: int) -> None:
        self.count += 1
        if len(self.sample) < size:
            self.sample.append(key)
        elif (place := chance.randrange(self.count)) < size:
            self.sample[place] = key


def online_bytes(client: Redis, env: str, *, sample: int = SAMPLE) -> OnlineBytes:
    """Weigh a sample of the hashes of every entity (`MEMORY USAGE`), and multiply by how many there are.

    What a hash weighs is divided among its values by their length, and what a value weighs among its features by the
    length of their packed items, so that nothing is left over: the sum is what Redis said.
    """
    layouts = _layouts(client, env)
    features: dict[str, float] = defaultdict(float)
    unknown: dict[str, float] = defaultdict(float)
    found = _hashes(client, env, sample)
    for hashes in found.values():
        factor = hashes.count / len(hashes.sample)
        for size, values in _weighed(client, hashes.sample):
            total = sum(len(name) + len(value) for name, value in values.items()) or 1
            for name, value in values.items():
                share = factor * size * (len(name) + len(value)) / total
                view = name.decode(errors="replace")
                parts = _parts(view, value, layouts)
                for feature, part in parts.items():
                    features[f"{view}:{feature}"] += share * part
                if not parts:
                    unknown[view] += share
    return OnlineBytes(
        features=dict(features),
        unknown=dict(unknown),
        hashes=sum(each.count for each in found.values()),
        weighed=sum(len(each.sample) for each in found.values()),
    )


def _layouts(client: Redis, env: str) -> _Layouts:
    """All that values may have been written with; without those that another version of this library wrote."""
    found: dict[tuple[str, int], ViewLayout] = {}
    for value in cast("list[bytes]", client.hvals(layouts_key(env))):
        with suppress(msgspec.DecodeError):
            layout = parse_layout(value)
            found[layout.id, layout.layout_id] = layout
    return found


def _hashes(client: Redis, env: str, sample: int) -> dict[bytes, _Hashes]:
    chance, found = random.Random(0), defaultdict[bytes, _Hashes](_Hashes)  # noqa: S311 - a sample
    for name in ("features", "features-pii"):
        for key in client.scan_iter(f"{name}:{env}:{{*", count=_SCANNED, _type="hash"):
            found[key.partition(b"{")[2].partition(b":")[0]].add(key, chance, sample)
    return found


def _weighed(client: Redis, keys: Sequence[bytes]) -> list[tuple[int, dict[bytes, bytes]]]:
    """Bytes and values of each hash that is still there."""
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.memory_usage(key, samples=0)
        pipeline.hgetall(key)
    replies = pipeline.execute()
    return [(size, values) for size, values in zip(replies[::2], replies[1::2], strict=True) if size and values]


def _parts(view: str, value: bytes, layouts: _Layouts) -> dict[str, float]:
    """Feature -> its share of a value; what is not a feature's own is shared alike. Empty if nothing says what it holds."""
    try:
        row = decode_row(value)
        items = row.items
    except (IndexError, TypeError, ValueError):  # it is damaged
        return {}
    layout = layouts.get((view, row.layout_id))
    if layout is None or len(items) < len(layout.features):
        return {}
    sizes = [len(_encode(item)) for item in items[: len(layout.features)]]
    rest = max(len(value) - sum(sizes), 0) / len(layout.features)
    total = sum(sizes) + rest * len(layout.features)
    return {each.name: (size + rest) / total for each, size in zip(layout.features, sizes, strict=True)}
