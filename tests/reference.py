"""The naive twin: every aggregate, the time rule and the point-in-time join in plain loops over plain values.

It shares no code with the project and is written from the contract alone, so that the two can only agree by being
right. It is slow on purpose: each value looks at every event again.

A record is bytes in a partition; `take_in` says which records are events, by its own reading of JSON and of times.
An event is a dict: `event_id` (text), `event_us`, optionally `arrived_us` and `visible_us` (integer microseconds since
the epoch, UTC), and the source's columns as Python values (None for null).
A feature is a dict: `aggregate`, `column` and `type` (none for count), `over` and `hop` (a text such as '7d', a
timedelta or None), `cap` for count_distinct and last_n. A `type` is 'int', 'float', 'bool', 'str' or ('decimal', s).
A value comes with its status: 'PRESENT', 'EMPTY', 'ERROR', or 'UNKNOWN' for a row without an entity.
"""

import json
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


# --- records --------------------------------------------------------------------------------------------------------


def time_of(text: str) -> int:
    """Microseconds of '2024-02-29T23:59:60.5+05:45' and its like, by the calendar's own rules."""
    date, _, clock = text.partition("T")
    year, month, day = (int(part) for part in date.split("-"))
    zone_at = max(clock.rfind("Z"), clock.rfind("+"), clock.rfind("-"))
    clock, zone = clock[:zone_at], clock[zone_at:]
    hour, minute, second = clock.split(":")
    whole, _, fraction = second.partition(".")
    offset = 0
    if zone != "Z":
        offset = (int(zone[1:3]) * HOUR + int(zone[4:6]) * MINUTE) * (-1 if zone[0] == "-" else 1)
    clock_us = int(hour) * HOUR + int(minute) * MINUTE + int(whole) * SECOND + int((fraction + "000000")[:6])
    return days_since_1970(year, month, day) * DAY + clock_us - offset


def days_since_1970(year: int, month: int, day: int) -> int:
    """Count them."""
    days = 365 * (year - 1970) + leap_days_before(year) - leap_days_before(1970)
    lengths = [31, 29 if is_leap(year) else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    return days + sum(lengths[: month - 1]) + day - 1


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def leap_days_before(year: int) -> int:
    return (year - 1) // 4 - (year - 1) // 100 + (year - 1) // 400


def value_of(value: object, kind: object) -> object:
    """A JSON value as a column of that type holds it.

    Raises:
        ValueError: it is none of that type.
    """
    if value is None:
        return None
    if kind == "time":
        if not isinstance(value, str):
            raise ValueError("a time is a text")
        return time_of(value)
    if kind == "float" and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind == "int" and type(value) is int and INT64_MIN <= value <= INT64_MAX:
        return value
    if isinstance(kind, tuple) and isinstance(value, str):
        return Decimal(value)
    if {"str": str, "bool": bool}.get(str(kind)) is type(value):
        return value
    raise ValueError(f"{value!r} is no {kind}")


def event_of(payload: bytes, columns: Mapping[str, object], *, event_time: str, event_id: str) -> Event | None:
    """A payload as an event; None if it is none. Columns that it leaves out are null, others are ignored."""
    try:
        found = json.loads(payload)
        row = {name: value_of(found.get(name), kind) for name, kind in columns.items()}
    except (ValueError, AttributeError, ArithmeticError):
        return None
    if row[event_time] is None or row[event_id] is None:
        return None
    return row | {"event_us": row[event_time], "event_id": str(row[event_id])}


def partition_of(event_id: str, partitions: int) -> int:
    """CRC-32 as its standard has it, bit by bit: the partition where an event belongs."""
    register = 0xFFFFFFFF
    for byte in event_id.encode():
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return (register ^ 0xFFFFFFFF) % partitions


def take_in(
    partition: int,
    records: Iterable[tuple[bytes, int]],
    columns: Mapping[str, object],
    *,
    event_time: str,
    event_id: str,
    partitions: int,
) -> tuple[list[Event], list[str | None]]:
    """What a partition's records, (payload, arrival) in their order, come to.

    Returns the events, and for each record what is wrong with it: 'rejected', 'duplicate', 'conflict' or None.
    """
    events: dict[str, Event] = {}
    kinds: list[str | None] = []
    for payload, arrived_us in records:
        event = event_of(payload, columns, event_time=event_time, event_id=event_id)
        event = None if event is None else {**event, "arrived_us": arrived_us}
        if event is None or is_rejected_as_future(event) or partition_of(event["event_id"], partitions) != partition:
            kinds.append("rejected")
            continue
        first = events.get(event["event_id"])
        if first is None:
            events[event["event_id"]] = event
        kinds.append(None if first is None else "duplicate" if same_payload(first, event) else "conflict")
    return list(events.values()), kinds


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
    return all(same_value(one.get(name), other.get(name)) for name in names)


def same_value(one: object, other: object) -> bool:
    """Equal as SQL has it: every NaN is the same, and minus zero is zero."""
    return one == other or (is_nan(one) and is_nan(other))


def is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


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
