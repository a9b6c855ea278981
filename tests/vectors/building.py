"""How the vectors of `reads.json` are made: layouts, services, rows and records of one line each, and what a read must say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from feature_store.online.keys import features_key
from feature_store.online.layout import (
    FeatureLayout,
    RatioItem,
    ServiceLayout,
    StoredItem,
    ViewLayout,
    layout_fields,
    service_fields,
    with_id,
)
from feature_store.online.packing import encode_rows
from feature_store.online.ready import ReadyRecord, encode_ready

ENV = "prod"
S = 1_000_000
HOUR = 3600 * S
NOW = 1_700_000_000_500_000
"""Half a second past a whole one."""
FROM = NOW - 10 * S
SLA = 300 * S
GENERATION = "c0ffee"
ALL = ["PRESENT"] * 7

Json = Any


def view(
    *features: str,
    name: str = "orders",
    entity: str = "user",
    keys: Mapping[str, str] | None = None,
    online: str = "stream",
    sla_s: int = 300,
    personal: bool = False,
) -> ViewLayout:
    """A layout of features like `count:int=0` or `tails:str[]`."""
    kinds = {"user": "str"} if keys is None else keys
    made = {"view": name, "version": 1, "entity": entity, "online": online, "personal": personal, "sla_us": sla_s * S}
    parsed = [_feature(text) for text in features]
    return with_id(ViewLayout(**made, layout_id=0, join_keys=[*kinds], key_kinds=[*kinds.values()], features=parsed))


def _feature(text: str) -> FeatureLayout:
    name, _, rest = text.partition(":")
    dtype, _, empty = rest.partition("=")
    is_list = dtype.endswith("[]")
    value = [] if is_list else None if not empty else float(empty) if dtype == "float" else int(empty)
    return FeatureLayout(name=name, dtype=dtype.removesuffix("[]"), is_list=is_list, empty=value)


def stored(of: ViewLayout, feature: str) -> StoredItem:
    return StoredItem(view=of.view, version=of.version, feature=feature, name=f"{of.view}:{feature}")


def ratio(name: str, top: StoredItem, bottom: StoredItem, empty: float | None = None) -> RatioItem:
    return RatioItem(name=name, numerator=top, denominator=bottom, empty=empty)


def service(
    of: ViewLayout, *, features: Sequence[str] = (), name: str = "model", version: int = 1, **options: Json
) -> ServiceLayout:
    """Some features of a view, or all of them."""
    items = [stored(of, feature) for feature in features or [feature.name for feature in of.features]]
    return ServiceLayout(name=name, version=version, features=list(items), **options)


def row(
    of: ViewLayout,
    *features: Json,
    from_us: int = FROM,
    age_us: int | None = S,
    until_s: int = 0,
    own: bytes | None = None,
) -> bytes:
    """A packed value; each feature a list of its one item."""
    [value] = encode_rows(of.layout_id, 2, 3, [from_us], [age_us], [until_s], features, [own])
    return value


def ready(views: Sequence[ViewLayout], *, field: str = "0", beat_us: int = NOW, **changes: Json) -> bytes:
    vouched = {each.id: each.layout_id for each in views}
    record = ReadyRecord(field=field, generation=GENERATION, views=vouched, run=2, n=9, beat_us=beat_us, **changes)
    return encode_ready(record)


def store(
    name: str,
    views: Sequence[ViewLayout],
    services: Sequence[ServiceLayout],
    *,
    reads: Iterable[Json],
    rows: Mapping[Json, bytes] | None = None,
    ready: Mapping[str, bytes | str] | None = None,
    older: Sequence[ViewLayout] = (),
    generation: str = GENERATION,
) -> dict[str, Json]:
    """What stands in Redis; rows by the key of the first view, or by (view, parts of the key)."""
    kept = layout_fields(older) | layout_fields(views)
    made: dict[str, Json] = {
        f"generation:{ENV}": generation,
        f"ready:{ENV}": {field: plain(value) for field, value in (ready or {}).items()},
        f"layouts:{ENV}": {field: plain(value) for field, value in kept.items()},
        f"services:{ENV}": {field: plain(value) for field, value in service_fields(services).items()},
    }
    by_name = {each.view: each for each in views}
    for key, value in (rows or {}).items():
        of, *parts = key if isinstance(key, tuple) else (views[0].view, key)
        layout = by_name[of]
        joined = "|".join(part.replace("%", "%25").replace("|", "%7C") for part in parts)
        made.setdefault(features_key(ENV, layout.entity, joined, personal=layout.personal), {})[layout.id] = plain(
            value
        )
    return {"name": name, "store": made, "reads": list(reads)}


def plain(value: bytes | str) -> Json:
    """Bytes in JSON: text as itself, JSON as its value, others as hexadecimal digits."""
    if isinstance(value, str):
        return value
    if value[:1] == b"{":
        return json.loads(value)
    return value.decode() if value.isdigit() else {"hex": value.hex()}


def read(
    keys: Mapping[str, Json],
    values: Sequence[Json],
    statuses: str | Sequence[str],
    *,
    service: str = "model",
    now: int = NOW,
    as_of: int | None = None,
    served: str | None = None,
) -> dict[str, Json]:
    """What must come of a read."""
    told = {} if served is None else {"served": served}
    names = statuses.split() if isinstance(statuses, str) else list(statuses)
    assert len(names) == len(values)
    asked = {"service": service, "keys": numbers(dict(keys)), "now_us": now, "as_of_us": as_of}
    return {**asked, **told, "values": numbers(list(values)), "statuses": names}


def failed(
    keys: Mapping[str, Json], error: str, *, service: str = "model", now: int = NOW, as_of: int | None = None
) -> dict[str, Json]:
    """A read that must fail: `unknown` name, `invalid` keys, a value that is `refused`, a `store` of something newer."""
    return {"service": service, "keys": numbers(dict(keys)), "now_us": now, "as_of_us": as_of, "error": error}


def numbers(value: Json) -> Json:
    """Values with the numbers that JSON does not have as text."""
    if isinstance(value, list):
        return [numbers(each) for each in value]
    if isinstance(value, dict):
        return {name: numbers(each) for name, each in value.items()}
    if isinstance(value, int) and abs(value) > 2**53 - 1:
        return {"int": str(value)}
    if isinstance(value, float):
        special = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity", "-0.0": "-0"}.get(repr(value))
        return value if special is None else {"float": special}
    return value


def shown_stores(made: Sequence[dict[str, Json]]) -> str:
    """JSON with a line for every key and every read."""
    blocks = []
    for each in made:
        keys = ",\n".join(f"   {_line(key)}: {_line(value)}" for key, value in each["store"].items())
        reads = ",\n".join(f"   {_line(read)}" for read in each["reads"])
        blocks.append(
            f' {{\n  "name": {_line(each["name"])},\n  "store": {{\n{keys}\n  }},\n  "reads": [\n{reads}\n  ]\n }}'
        )
    return "[\n" + ",\n".join(blocks) + "\n]\n"


def _line(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)
