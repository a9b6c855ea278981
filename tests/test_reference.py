"""The reference itself is checked by hand-worked cases: everything else is compared with it."""

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
import reference
from reference import DAY, HOUR, MINUTE, SECOND, feature_value


def an_event(event_us, *, event_id=None, **columns):
    return {"event_id": event_id or f"e{event_us}", "event_us": event_us, **columns}


def of(aggregate, kind="int", *, over=None, hop=None, cap=None):
    return {"aggregate": aggregate, "column": "x", "type": kind, "over": over, "hop": hop, "cap": cap}


def over_values(aggregate, values, kind="int", *, cap=None):
    """The lifetime feature over events one microsecond apart."""
    events = [an_event(i, x=value) for i, value in enumerate(values)]
    return feature_value(events, of(aggregate, kind, cap=cap), len(values))


@pytest.mark.parametrize(
    ("text", "micros"),
    [("30s", 30 * SECOND), ("5m", 5 * MINUTE), ("5min", 5 * MINUTE), ("1h", HOUR), ("7d", 7 * DAY), ("2w", 14 * DAY)],
)
def test_durations_are_read_from_text(text, micros):
    assert reference.duration_us(text) == micros


def test_durations_are_read_from_timedeltas():
    assert reference.duration_us(timedelta(days=1, seconds=2, microseconds=3)) == DAY + 2 * SECOND + 3


def test_a_window_holds_its_tail_and_not_its_head():
    #  tail 10:00            t 11:00
    #  |=====================)
    feature = of("count", over="1h", hop="1m")
    t = 11 * HOUR

    assert [reference.in_window(e, feature, t) for e in (t - HOUR - 1, t - HOUR, t - 1, t)] == [
        False,
        True,
        True,
        False,
    ]


def test_the_tail_is_floored_to_the_hop_also_before_the_epoch():
    feature = of("count", over="1h", hop="30m")

    assert reference.in_window(-2 * HOUR, feature, -HOUR + 29 * MINUTE)
    assert not reference.in_window(-2 * HOUR - 1, feature, -HOUR)


@pytest.mark.parametrize(
    ("aggregate", "values", "expected"),
    [
        ("count", [1, None, 3], (3, "PRESENT")),
        ("count", [], (0, "EMPTY")),
        ("sum", [1, None, 3], (4, "PRESENT")),
        ("sum", [None], (0, "EMPTY")),
        ("mean", [1, 2, None], (1.5, "PRESENT")),
        ("mean", [None], (None, "EMPTY")),
        ("variance", [1, 2, 4], (7 / 3, "PRESENT")),
        ("variance", [1], (None, "EMPTY")),
        ("stddev", [1, 3], (math.sqrt(2), "PRESENT")),
        ("min", [3, None, -2], (-2, "PRESENT")),
        ("max", [3, None, -2], (3, "PRESENT")),
        ("first", [None, 5, 6], (5, "PRESENT")),
        ("last", [5, 6, None], (6, "PRESENT")),
        ("last", [None], (None, "EMPTY")),
        ("latest", [5, None, 6], (6, "PRESENT")),
        ("latest", [5, 6, None], (None, "EMPTY")),
    ],
)
def test_an_aggregate_gives_what_one_works_out_by_hand(aggregate, values, expected):
    assert over_values(aggregate, values) == expected


def test_last_n_is_oldest_first_and_capped():
    assert over_values("last_n", ["a", None, "b", "c"], "str", cap=2) == (["b", "c"], "PRESENT")
    assert over_values("last_n", [None], "str", cap=2) == ([], "EMPTY")


def test_distinct_values_are_counted_up_to_the_cap():
    assert over_values("count_distinct", ["a", "b", "a", None], "str", cap=9) == (2, "PRESENT")
    assert over_values("count_distinct", ["a", "b", "c"], "str", cap=2) == (2, "PRESENT")
    assert over_values("count_distinct", [None], "str", cap=2) == (0, "EMPTY")


@pytest.mark.parametrize("aggregate", ["sum", "mean", "variance", "stddev"])
def test_a_sum_beyond_64_bits_is_an_error(aggregate):
    assert over_values(aggregate, [2**63 - 1, 1]) == (None, "ERROR")


def test_a_sum_may_leave_64_bits_on_the_way_if_it_comes_back():
    assert over_values("sum", [2**63 - 1, 1, -1]) == (2**63 - 1, "PRESENT")


def test_floats_count_in_units_of_a_millionth_rounded_half_to_even():
    half = 0.5 / 2**20

    assert reference.as_integer(half, "float") == 0
    assert reference.as_integer(3 * half, "float") == 2
    assert reference.as_integer(-3 * half, "float") == -2
    assert reference.round_half_even(Fraction(5, 2)) == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2.0**43, 1e300])
def test_floats_that_no_integer_can_hold_add_nothing(value):
    assert over_values("mean", [1.0, value], "float") == (1.0, "PRESENT")


def test_the_largest_float_that_fits_is_kept():
    assert reference.as_integer(-(2.0**43), "float") == -(2**63)


def test_minus_zero_is_zero():
    value, _ = over_values("last", [-0.0], "float")

    assert math.copysign(1.0, value) == 1.0


def test_decimals_are_exact():
    cents = [Decimal("0.10")] * 3

    assert over_values("sum", cents, ("decimal", 2)) == (0.3, "PRESENT")


def test_equal_times_are_ordered_by_the_id_as_utf8():
    events = [an_event(5, event_id="ä", x=1), an_event(5, event_id="z", x=2), an_event(4, event_id="\U0001f600", x=3)]

    assert feature_value(events, of("last"), 6) == (1, "PRESENT")
    assert feature_value(events[:2], of("first"), 6) == (2, "PRESENT")


def test_the_first_position_of_an_id_wins_and_the_others_are_told_apart():
    one, same, other = an_event(1, event_id="a", x=1), an_event(1, event_id="a", x=1), an_event(1, event_id="a", x=2)

    assert reference.deduplicate([one, same, other]) == ([one], [same], [other])


def test_a_batch_row_knows_the_events_before_its_stamp_and_is_valid_from_it():
    events = [an_event(DAY - 1, x=1), an_event(DAY, x=2)]

    assert reference.batch_value(events, of("count"), DAY, every="1d") == (1, "PRESENT")
    assert reference.batch_value(events, of("count"), 2 * DAY - 1, every="1d") == (1, "PRESENT")
    assert reference.batch_value(events, of("count"), 2 * DAY, every="1d") == (2, "PRESENT")


def test_every_spine_row_comes_back_in_order_and_a_null_key_is_nobody():
    events = [an_event(1, k="a", x=1), an_event(2, k=None, x=1), an_event(3, k="a", x=1)]
    rows = [{"k": "a", "t_us": 9}, {"k": None, "t_us": 9}, {"k": "b", "t_us": 9}, {"k": "a", "t_us": 2}]

    table = reference.point_in_time(events, rows, [of("count")], join_keys=["k"])

    assert table == [[(2, "PRESENT")], [(None, "UNKNOWN")], [(0, "EMPTY")], [(1, "PRESENT")]]


def test_served_knowledge_leaves_out_what_was_seen_later():
    events = [
        an_event(1, k="a", x=1),
        an_event(2, k="a", x=1, arrived_us=50),
        an_event(3, k="a", arrived_us=4, visible_us=60),
    ]
    rows = [{"k": "a", "t_us": t} for t in (10, 50, 60)]

    served = reference.point_in_time(events, rows, [of("count")], join_keys=["k"], knowledge="served")

    assert [row[0][0] for row in served] == [1, 2, 3]


def test_an_event_is_late_or_future_by_more_than_what_is_allowed():
    assert not reference.is_late(an_event(0, arrived_us=HOUR), HOUR)
    assert reference.is_late(an_event(0, arrived_us=HOUR + 1), HOUR)
    assert not reference.is_rejected_as_future(an_event(MINUTE, arrived_us=0))
    assert reference.is_rejected_as_future(an_event(MINUTE + 1, arrived_us=0))
    assert not reference.is_late(an_event(0), SECOND)


def test_keys_escape_what_separates():
    assert reference.entity_key(["a|b", "{c}%"]) == "a%7Cb|%7Bc%7D%25"
    assert reference.entity_key([True, 7]) == "true|7"
    assert reference.entity_key(["a", None]) is None


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T05:45:00.000001+05:45", 1),
        ("1969-12-31T20:59:59.5-03:00", -500_000),
        ("2000-02-29T00:00:00Z", 11_016 * DAY),
        ("2100-03-01T12:00:00Z", 47_541 * DAY + 12 * HOUR),
    ],
)
def test_times_are_read_by_the_calendar(text, micros):
    assert reference.time_of(text) == micros


def test_a_partition_is_the_crc_of_an_id():
    assert reference.partition_of("123456789", 2**32) == 0xCBF43926  # the check value of CRC-32


def test_records_become_events_once_in_place_and_in_time():
    def record(event_id, at="1970-01-01T00:00:00Z", x="1"):
        return f'{{"id": "{event_id}", "at": "{at}", "x": {x}}}'.encode(), 0

    records = [record("a"), record("a", x="1.0"), record("a"), record("a", x="2"), (b"[]", 0), record("b", x="1e999")]
    records += [record("c", at="1970-01-01T00:01:00Z"), record("d", at="1970-01-01T00:01:00.000001Z")]
    columns = {"id": "str", "at": "time", "x": "int"}

    events, kinds = reference.take_in(0, records, columns, event_time="at", event_id="id", partitions=1)

    assert [event["event_id"] for event in events] == ["a", "c"]
    assert kinds == [None, "rejected", "duplicate", "conflict", "rejected", "rejected", None, "rejected"]
    place = reference.partition_of("a", 4)
    elsewhere = reference.take_in((place + 1) % 4, records, columns, event_time="at", event_id="id", partitions=4)
    assert "a" not in [event["event_id"] for event in elsewhere[0]]
