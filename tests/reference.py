"""The naive twin: every aggregate, the time rule and the point-in-time join in plain loops over plain values.

It shares no code with the project and is written from the contract alone, so that the two can only agree by being
right. It is slow on purpose: each value looks at every event again.

An event is a dict: `event_id` (text), `event_us`, optionally `arrived_us` and `visible_us` (integer microseconds since
the epoch, UTC), and the source's columns as Python values (None for null).
A feature is a dict: `aggregate`, `column` and `type` (none for count), `over` and `hop` (a text such as '7d', a
timedelta or None), `cap` for count_distinct and last_n. A `type` is 'int', 'float', 'bool', 'str' or ('decimal', s).
A value comes with its status: 'PRESENT', 'EMPTY', 'ERROR', or 'UNKNOWN' for a row without an entity.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

Event = Mapping[str, object]
FeatureFields = Mapping[str, object]
Result = tuple[object, str]

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
FLOAT_SCALE = 2**20

ALLOWED_HOPS = [
    *(n * SECOND for n in (1, 2, 5, 10, 15, 30)),
    *(n * MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * HOUR for n in (1, 2, 3, 6, 12)),
    DAY,
]


# --- time -----------------------------------------------------------------------------------------------------------


def duration_us(value: object) -> int:
    """Microseconds of '30s', '5m', '5min', '1h', '7d', '2w' or a timedelta."""
    if isinstance(value, timedelta):
        return (value.days * 86_400 + value.seconds) * SECOND + value.microseconds
    text = str(value)
    number = ""
    while text and text[0] in "0123456789":
        number, text = number + text[0], text[1:]
    unit = {"s": SECOND, "m": MINUTE, "min": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}[text.strip()]
    return int(number) * unit


def hop_us(feature: FeatureFields) -> int:
    """The step of the window's tail: as declared, else the largest allowed one that divides W and is at most W / 24."""
    if feature.get("hop") is not None:
        return duration_us(feature["hop"])
    window = duration_us(feature["over"])
    chosen = SECOND
    for hop in ALLOWED_HOPS:
        if window % hop == 0 and 24 * hop <= window:
            chosen = max(chosen, hop)
    return chosen


def floor_to(time_us: int, step_us: int) -> int:
    """The last multiple of the step at or before the time."""
    remainder = time_us % step_us  # never negative in Python, so this holds before 1970 too
    return time_us - remainder


def in_window(event_us: int, feature: FeatureFields, t_us: int) -> bool:
    """True if the feature's window at `t_us` holds an event of that time."""
    if event_us >= t_us:
        return False
    if feature.get("over") is None:
        return True
    return event_us >= floor_to(t_us - duration_us(feature["over"]), hop_us(feature))


# --- what is known --------------------------------------------------------------------------------------------------


def seen_us(event: Event) -> int:
    """When the store could serve the event: visible, else arrived, else (bulk history) at its own time."""
    for name in ("visible_us", "arrived_us", "event_us"):
        if event.get(name) is not None:
            return int(event[name])
    raise ValueError("an event has a time")


def known(events: Iterable[Event], known_at_us: int) -> list[Event]:
    """The events that a value could know at that moment."""
    return [event for event in events if seen_us(event) <= known_at_us]


def lateness_us(event: Event) -> int:
    """How long after its time the event arrived; 0 for bulk history that does not say."""
    arrived = event.get("arrived_us")
    return 0 if arrived is None else int(arrived) - int(event["event_us"])


def is_rejected_as_future(event: Event, tolerance_us: int = MINUTE) -> bool:
    """True if the event's time is later than its arrival by more than the tolerance."""
    return -lateness_us(event) > tolerance_us


def is_late(event: Event, allowed_us: int) -> bool:
    """True if it arrived later than `late_events="ignore"` allows: aggregated nowhere."""
    return lateness_us(event) > allowed_us


def deduplicate(events: Iterable[Event]) -> tuple[list[Event], list[Event], list[Event]]:
    """Events in the order of their positions -> (kept, duplicates, conflicts). The first of an id wins."""
    kept: dict[str, Event] = {}
    duplicates: list[Event] = []
    conflicts: list[Event] = []
    for event in events:
        first = kept.get(str(event["event_id"]))
        if first is None:
            kept[str(event["event_id"])] = event
        elif same_payload(first, event):
            duplicates.append(event)
        else:
            conflicts.append(event)
    return list(kept.values()), duplicates, conflicts


def same_payload(one: Event, other: Event) -> bool:
    """True if both say the same; when they arrived or became visible is not what they say."""
    transport = {"arrived_us", "visible_us", "position"}
    names = {name for name in [*one, *other] if name not in transport}
    return all(repr(one.get(name)) == repr(other.get(name)) for name in names)


def entity_key(values: Sequence[object]) -> str | None:
    """The canonical text of an entity: parts joined by `|`, with % | { } escaped; None if a part is null."""
    parts = []
    for value in values:
        if value is None:
            return None
        text = ("true" if value else "false") if isinstance(value, bool) else str(value)
        parts.append("".join({"%": "%25", "|": "%7C", "{": "%7B", "}": "%7D"}.get(char, char) for char in text))
    return "|".join(parts)


# --- numbers --------------------------------------------------------------------------------------------------------


def scale_of(kind: object) -> int:
    """How many units of the integer make one."""
    if kind == "float":
        return FLOAT_SCALE
    return 10 ** kind[1] if isinstance(kind, tuple) else 1


def round_half_even(exact: Fraction) -> int:
    """The nearest integer; of two equally near ones the even."""
    below = math.floor(exact)
    rest = exact - below
    if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1):
        return below + 1
    return below


def as_integer(value: object, kind: object) -> int | None:
    """What a value adds to a sum, in units of 1 / scale; None if it is null, not finite or beyond 64 bits."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    scaled = round_half_even(Fraction(value) * scale_of(kind))
    return scaled if INT64_MIN <= scaled <= INT64_MAX else None


def as_value(value: object, kind: object) -> object:
    """A value as a feature serves it: a float that is not finite is null, minus zero is zero, a decimal a float."""
    if isinstance(value, float):
        return value + 0.0 if math.isfinite(value) else None
    if isinstance(value, Decimal):
        scaled = as_integer(value, kind)
        return None if scaled is None else float(scaled) / scale_of(kind)
    return value


# --- aggregates -----------------------------------------------------------------------------------------------------

# Each takes the events of one window, sorted by (time, id).


def in_order(events: Iterable[Event]) -> list[Event]:
    """By event time; equal times by event id as UTF-8."""
    return sorted(events, key=lambda event: (event["event_us"], str(event["event_id"]).encode()))


def values_of(events: Sequence[Event], feature: FeatureFields) -> list[object]:
    values = [as_value(event[str(feature["column"])], feature["type"]) for event in events]
    return [value for value in values if value is not None]


def integers_of(events: Sequence[Event], feature: FeatureFields) -> list[int]:
    integers = [as_integer(event[str(feature["column"])], feature["type"]) for event in events]
    return [integer for integer in integers if integer is not None]


def total_of(integers: Sequence[int]) -> int | None:
    """The sum, None if it is beyond 64 bits."""
    total = 0
    for integer in integers:
        total += integer
    return total if INT64_MIN <= total <= INT64_MAX else None


def count(events: Sequence[Event], feature: FeatureFields) -> Result:
    return (len(events), "PRESENT") if events else (0, "EMPTY")


def sum_(events: Sequence[Event], feature: FeatureFields) -> Result:
    integers, scale = integers_of(events, feature), scale_of(feature["type"])
    total = total_of(integers)
    if total is None:
        return None, "ERROR"
    return total if scale == 1 else float(total) / scale, "PRESENT" if integers else "EMPTY"


def mean(events: Sequence[Event], feature: FeatureFields) -> Result:
    integers = integers_of(events, feature)
    if not integers:
        return None, "EMPTY"
    total = total_of(integers)
    if total is None:
        return None, "ERROR"
    return float(total) / float(len(integers)) / scale_of(feature["type"]), "PRESENT"


def variance(events: Sequence[Event], feature: FeatureFields) -> Result:
    integers, scale = integers_of(events, feature), scale_of(feature["type"])
    n = len(integers)
    if n < 2:
        return None, "EMPTY"
    total = total_of(integers)
    if total is None:
        return None, "ERROR"
    spread = n * sum(integer * integer for integer in integers) - total * total
    return float(spread) / (float(n) * float(n - 1)) / (scale * scale), "PRESENT"


def stddev(events: Sequence[Event], feature: FeatureFields) -> Result:
    value, status = variance(events, feature)
    return (math.sqrt(value) if isinstance(value, float) else None), status


def extreme(events: Sequence[Event], feature: FeatureFields, beats: Callable[[object, object], bool]) -> Result:
    values = values_of(events, feature)
    if not values:
        return None, "EMPTY"
    best = values[0]
    for value in values[1:]:
        if beats(value, best):
            best = value
    return int(best) if isinstance(best, bool) else best, "PRESENT"


def min_(events: Sequence[Event], feature: FeatureFields) -> Result:
    return extreme(events, feature, lambda one, other: one < other)


def max_(events: Sequence[Event], feature: FeatureFields) -> Result:
    return extreme(events, feature, lambda one, other: one > other)


def first(events: Sequence[Event], feature: FeatureFields) -> Result:
    values = values_of(events, feature)
    return (values[0], "PRESENT") if values else (None, "EMPTY")


def last(events: Sequence[Event], feature: FeatureFields) -> Result:
    values = values_of(events, feature)
    return (values[-1], "PRESENT") if values else (None, "EMPTY")


def latest(events: Sequence[Event], feature: FeatureFields) -> Result:
    return last(events[-1:], feature)


def last_n(events: Sequence[Event], feature: FeatureFields) -> Result:
    values = values_of(events, feature)
    newest = values[-int(feature["cap"]) :]
    return newest, "PRESENT" if newest else "EMPTY"


def count_distinct(events: Sequence[Event], feature: FeatureFields) -> Result:
    different: list[object] = []
    for value in values_of(events, feature):
        if value not in different:
            different.append(value)
    return min(len(different), int(feature["cap"])), "PRESENT" if different else "EMPTY"


AGGREGATES: dict[str, Callable[[Sequence[Event], FeatureFields], Result]] = {
    "count": count,
    "sum": sum_,
    "mean": mean,
    "variance": variance,
    "stddev": stddev,
    "min": min_,
    "max": max_,
    "first": first,
    "last": last,
    "latest": latest,
    "last_n": last_n,
    "count_distinct": count_distinct,
}


# --- features -------------------------------------------------------------------------------------------------------


def feature_value(events: Iterable[Event], feature: FeatureFields, t_us: int) -> Result:
    """The feature at `t_us` of the entity whose events these are: every id once, those that do not pass `where` gone."""
    inside = [event for event in events if in_window(int(event["event_us"]), feature, t_us)]
    return AGGREGATES[str(feature["aggregate"])](in_order(inside), feature)


def batch_row_us(t_us: int, every: object) -> int:
    """The stamp of the batch row that is valid at `t_us`: the newest multiple of `every` at or before it."""
    return floor_to(t_us, duration_us(every))


def batch_value(events: Iterable[Event], feature: FeatureFields, t_us: int, *, every: object) -> Result:
    """A batch view's feature at `t_us`: the value as of the newest row's stamp."""
    return feature_value(events, feature, batch_row_us(t_us, every))


def events_of(events: Iterable[Event], join_keys: Sequence[str], row: Mapping[str, object]) -> list[Event] | None:
    """The events of the row's entity; None for a null join key, which is no entity."""
    wanted = entity_key([row[name] for name in join_keys])
    if wanted is None:
        return None
    return [event for event in events if entity_key([event[name] for name in join_keys]) == wanted]


def point_in_time(
    events: Iterable[Event],
    rows: Iterable[Mapping[str, object]],
    features: Sequence[FeatureFields],
    *,
    join_keys: Sequence[str],
    where: Callable[[Event], object] = lambda _: True,
    every: object = None,
    knowledge: str = "corrected",
) -> list[list[Result]]:
    """For each spine row (join keys and `t_us`), in order, the results of all features.

    Args:
        where: true, false or None (null) for an event; only true ones count.
        every: the step of a batch view's rows; None for a stream view.
        knowledge: 'corrected': all events by event time; 'served': those that were seen by the row's time.
    """
    kept = deduplicate(events)[0]
    kept = [event for event in kept if where(event) is True]
    table = []
    for row in rows:
        t_us = int(row["t_us"])
        own = events_of(kept, join_keys, row)
        if own is None:
            table.append([(None, "UNKNOWN") for _ in features])
            continue
        if knowledge == "served":
            own = known(own, t_us)
        as_of = t_us if every is None else batch_row_us(t_us, every)
        table.append([feature_value(own, feature, as_of) for feature in features])
    return table
