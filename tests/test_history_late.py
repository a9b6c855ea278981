"""Late events and the values that they changed, against plain loops over every event and instant."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import DAY, HOUR, MINUTE, SECOND
from strategies import View, accepts, arrow_events, declared, event_source, events, reference_events, views

from feature_store import Registry, redis_stream
from feature_store.history import late_values
from feature_store.history.late import count_late
from feature_store.lake.books.commits import Days
from feature_store.lake.memory import Books, MemoryLake
from feature_store.transforms.compiled import compile_registry

ANCHOR = 1_372_936_200 * SECOND
START = date(2013, 7, 4)
EVERY = {"stream": None, "batch": "6h"}


@st.composite
def lives(draw):
    """A view, events of which some came over the log, and days that are built together."""
    view = draw(views(max_features=4))
    happened = draw(events(view=view, anchor=ANCHOR, copies=False))
    happened = [event | {"logged": draw(st.sampled_from([True, True, False]))} for event in happened]
    middle = draw(st.sampled_from([event["event_us"] for event in happened] or [ANCHOR])) // DAY
    first = middle - draw(st.integers(0, 2))
    return view, happened, [first + n for n in range(draw(st.integers(1, 3)))]


def counted(view, happened, days, *, every):
    """Day -> what the book of late events is told."""
    batch = {} if every is None else {"online": "batch", "every": every, "freshness_sla": "40d"}
    made = declared(view, source=event_source(log=redis_stream("happenings")), **batch)
    compiled, lake = compile_registry(Registry(views=[made])), MemoryLake()
    numbered = arrow_events(happened)
    loaded = [row | {"_partition": row["_partition"] if event["logged"] else None} for row, event in
              zip(numbered.to_pylist(), happened, strict=True)]  # fmt: skip
    came = {event["event_us"] // DAY for event in happened if event["logged"]}
    lake.copy(
        "happenings",
        numbered.from_pylist(loaded, schema=numbered.schema),
        Books(days=Days([], [*map(as_date, came)], 0)),
    )
    try:
        found = count_late(compiled.plan(made), lake, days=[as_date(day) for day in days], snapshot=1)
    finally:
        lake.close()
    rows = found.to_pylist(maps_as_pydicts="strict")
    return {(row["day"] - date(1970, 1, 1)).days: row for row in rows}


def as_date(day):
    return date(1970, 1, 1) + timedelta(days=day)


def by_loops(view, happened, day, *, every):
    """(events, late ones, values that they change), read from the definition."""
    limit = MINUTE if view.lateness is None else reference.duration_us(view.lateness)
    open_to_all = View(features=view.features, join_keys=view.join_keys, where=view.where)
    own = [event for event in reference_events(view, happened) if accepts(open_to_all, event)]
    of = {}
    for event in own:
        of.setdefault(reference.entity_key([event[name] for name in view.join_keys]), []).append(event)
    of.pop(None, None)
    logged = [event for each in of.values() for event in each if event["logged"] and event["event_us"] // DAY == day]
    changed = sum(changes(view, mine, day, limit, every) for mine in of.values())
    return len(logged), sum(reference.is_late(event, limit) for event in logged), changed


def changes(view, own, day, limit, every):
    """How many values of an entity late events change."""
    late = [event for event in own if event["logged"] and reference.is_late(event, limit)]
    instants = sorted({event["event_us"] for event in own})
    if every is None:
        late = [event for event in late if event["event_us"] // DAY == day]
    else:
        step = reference.duration_us(every)
        instants = [day * DAY + n * step for n in range(1, DAY // step + 1)]
    total = 0
    for t in instants:
        hidden = {event["event_id"] for event in late if event["arrived_us"] > t}
        known = [event for event in own if event["event_id"] not in hidden]
        total += sum(
            repr(reference.feature_value(own, feature, t)) != repr(reference.feature_value(known, feature, t))
            for feature in view.features
        )
    return total


@pytest.mark.parametrize("path", list(EVERY))
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(life=lives())
def test_late_events_and_the_values_that_they_changed_are_what_loops_count(life, path):
    view, happened, days = life

    found = counted(view, happened, days, every=EVERY[path])

    for day in days:
        told = found.get(day, Counter())
        changed = told["ignored"] if view.lateness else told["changed"]
        assert (told["events"], told["late"], changed) == by_loops(view, happened, day, every=EVERY[path])
        assert told["late"] == sum((told["delays"] or {}).values())
        assert told["compared"] == told["entities"]
        assert not told["changed" if view.lateness else "ignored"]


# 4 July  |--------- a ------------- b ---- a ---|
#         0h        1h              2h      3h        the first `a` arrives at 2h30: the value at 3h had it
HOURS = [("a", 1, 1.5), ("b", 1.5, 0), ("a", 2, 0), ("a", 3, 0)]


def life(*happened, aggregate="count", over="6h"):
    """Events (airport, hours after midnight, hours until they arrive), of one feature."""
    feature = {
        "name": "f",
        "aggregate": aggregate,
        "column": None,
        "type": None,
        "over": over,
        "hop": None,
        "cap": None,
    }
    start = int(datetime(START.year, START.month, START.day, tzinfo=UTC).timestamp()) * SECOND
    blank = {"carrier": 1, "amount": 1, "small": 1, "delay": 1.0, "price": None, "label": "x", "flag": True}
    rows = []
    for number, (airport, at, delay) in enumerate(happened):
        time = start + int(at * HOUR)
        times = {"event_us": time, "arrived_us": time + int(delay * HOUR)}
        rows.append(blank | times | {"event_id": f"e{number}", "airport": airport, "logged": True})
    return View(features=[feature]), rows, start // DAY


def test_a_value_that_had_the_event_from_the_beginning_is_not_changed():
    view, happened, day = life(*HOURS)

    told = counted(view, happened, [day], every=None)[day]

    assert (told["events"], told["late"], told["entities"], told["changed"]) == (4, 1, 1, 1)


def test_values_of_later_days_are_counted_with_the_day_of_the_late_event_and_rows_with_their_own():
    view, happened, day = life(("a", 23, 30), ("a", 25, 0), ("a", 30, 0), over="1d")
    days = [day, day + 1, day + 2]

    tiles, rows = (counted(view, happened, days, every=every) for every in (None, "12h"))

    assert {each: row["changed"] for each, row in tiles.items()} == {day: 2, day + 1: 0}
    by_day = {each: (row["late"], row["changed"]) for each, row in rows.items()}
    assert by_day == {day: (1, 1), day + 1: (0, 1), day + 2: (0, 0)}


def test_beyond_a_number_of_events_the_entities_with_the_fewest_are_compared(monkeypatch):
    view, happened, day = life(*HOURS, ("b", 4, 2), ("b", 5, 0))
    assert counted(view, happened, [day], every=None)[day]["changed"] == 2

    monkeypatch.setattr(late_values, "MOST_EVENTS", 3)
    told = counted(view, happened, [day], every=None)[day]

    assert (told["entities"], told["compared"], told["changed"]) == (2, 1, 1)


def test_a_day_without_events_from_the_log_has_no_row():
    view, happened, day = life(*HOURS)

    assert counted(view, [event | {"logged": False} for event in happened], [day], every=None) == {}
    assert counted(view, happened, [day - 1], every=None) == {}
