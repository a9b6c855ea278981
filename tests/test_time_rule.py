"""The tables of docs/time-rule.md, read and executed: against the time rule and against the naive reference."""

import doctest
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from feature_store import time_rule
from feature_store.declare import agg

PAGE = Path(__file__).parent.parent / "docs" / "time-rule.md"
SECONDS = st.integers(1, 400 * 86_400)
TIMES = st.integers(-(2**60), 2**60)


def table(name):
    """The rows under the mark of that name, each a list of texts."""
    lines = PAGE.read_text().split(f"<!-- table: {name} -->")[1].split("\n\n")[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [pytest.param(row, id=" | ".join(row[:4]).replace(".999999", "-1us")) for row in rows[2:]]


def moment_us(text):
    moment = datetime.fromisoformat(text)
    return time_rule.to_us(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def a_feature(over, hop, *, aggregate="count", **fields):
    over = None if over in ("none", "") else over
    return {"aggregate": aggregate, "over": over, "hop": hop or None, "column": "x", "type": "int", **fields}


def window_and_hop(over, hop):
    if over == "none":
        return None, time_rule.DAY_US
    window_us = time_rule.parse_duration(over)
    return window_us, time_rule.parse_duration(hop, name="hop") if hop else time_rule.default_hop_us(window_us)


def holds(window_us, hop_us, *, t_us, event_us):
    return time_rule.tail_us(t_us, window_us, hop_us) <= event_us < t_us


@pytest.mark.parametrize("row", table("membership"))
def test_the_table_says_which_events_a_window_holds(row):
    over, hop, asked, event, held, _ = row
    t_us, event_us = moment_us(asked), moment_us(event)
    window_us, hop_us = window_and_hop(over, hop)

    assert holds(window_us, hop_us, t_us=t_us, event_us=event_us) == (held == "yes")
    assert reference.in_window(event_us, a_feature(over, hop), t_us) == (held == "yes")


@pytest.mark.parametrize("row", table("hops"))
def test_the_table_says_which_hop_a_window_gets(row):
    over, hop, tiles, error = row
    window_us, hop_us = time_rule.parse_duration(over), time_rule.parse_duration(hop)

    assert time_rule.default_hop_us(window_us) == hop_us == reference.hop_us(a_feature(over, None))
    assert window_us // hop_us == int(tiles) <= time_rule.MAX_TILES
    assert f"{100 * hop_us / window_us:.1f} %" == error


@pytest.mark.parametrize("row", table("too_many_tiles"))
def test_the_table_says_which_windows_need_a_hop_of_their_own(row):
    over, hop, tiles = row
    window_us = time_rule.parse_duration(over)

    assert (
        time_rule.default_hop_us(window_us) == time_rule.parse_duration(hop) == reference.hop_us(a_feature(over, None))
    )
    assert window_us // time_rule.default_hop_us(window_us) == int(tiles) > time_rule.MAX_TILES
    with pytest.raises(ValueError, match=f"`hop` must be given for the window .* of {hop} makes {tiles} tiles"):
        agg.count(over=over).features()
    assert agg.count(over=over, hop=hop).features()[0].hop_us == time_rule.parse_duration(hop)


@pytest.mark.parametrize("row", table("leaving"))
def test_the_table_says_when_a_tile_leaves(row):
    over, hop, event, last, gone = row
    event_us, last_us, gone_us = moment_us(event), moment_us(last), moment_us(gone)
    window_us, hop_us = window_and_hop(over, hop)
    tile_us = time_rule.floor_us(event_us, hop_us)

    assert time_rule.leaves_at_us(tile_us, window_us, hop_us) == gone_us == last_us + 1
    for t_us, held in ((last_us, True), (gone_us, False)):
        assert holds(window_us, hop_us, t_us=t_us, event_us=event_us) is held
        assert reference.in_window(event_us, a_feature(over, hop), t_us) is held


def events_of(text):
    """`a=1, b=2 +1` as events, in that order."""
    events = []
    for part in text.split(", "):
        name, _, rest = part.partition("=")
        value, _, later = rest.partition(" ")
        x = None if value == "null" else int(value)
        events.append({"event_id": name, "event_us": 1 if later else 0, "x": x})
    return events


@pytest.mark.parametrize("row", table("ties"))
def test_the_table_says_how_equal_times_are_ordered_whatever_the_order_of_arrival(row):
    text, first, last, last_two = row
    events = events_of(text)
    for _ in range(5):
        random.Random(len(events)).shuffle(events)

        assert reference.feature_value(events, a_feature("", None, aggregate="first"), 9)[0] == int(first)
        assert reference.feature_value(events, a_feature("", None, aggregate="last"), 9)[0] == int(last)
        newest = reference.feature_value(events, a_feature("", None, aggregate="last_n", cap=2), 9)[0]
        assert newest == [int(value) for value in last_two.split(", ")]


@pytest.mark.parametrize("row", table("batch_rows"))
def test_the_table_says_which_batch_row_is_valid_and_what_it_knows(row):
    every, asked, stamp, event, known, _ = row
    t_us, stamp_us, event_us = moment_us(asked), moment_us(stamp), moment_us(event)

    assert time_rule.floor_us(t_us, time_rule.parse_duration(every, name="every")) == stamp_us
    assert reference.batch_row_us(t_us, every) == stamp_us
    events = [{"event_id": "a", "event_us": event_us}]
    counted = reference.batch_value(events, a_feature("none", None), t_us, every=every)[0]
    assert counted == (1 if known == "yes" else 0)
    assert (event_us < stamp_us) == (known == "yes")


@pytest.mark.parametrize("row", table("arrival"))
def test_the_table_says_what_is_late_and_what_is_from_the_future(row):
    event, arrived, lateness, accepted, counts, _ = row
    record = {"event_id": "a", "event_us": moment_us(event), "arrived_us": moment_us(arrived) if arrived else None}

    future = reference.is_rejected_as_future(record)
    late = bool(lateness) and reference.is_late(record, reference.duration_us(lateness))
    assert future == (accepted == "no")
    assert (not future and not late) == (counts == "yes")


@pytest.mark.parametrize("row", table("refused"))
def test_the_table_says_what_is_refused_and_how(row):
    argument, given_text, message = row
    value = eval(given_text, {"timedelta": timedelta, "datetime": datetime})

    refuse = time_rule.to_us if isinstance(value, datetime) else time_rule.parse_duration
    with pytest.raises(ValueError, match=argument) as caught:
        refuse(value, name=argument)
    assert str(caught.value) == message


@given(SECONDS)
def test_every_window_gets_the_hop_of_the_reference_and_it_divides_the_window(seconds):
    window_us = seconds * time_rule.SECOND_US
    hop_us = time_rule.default_hop_us(window_us)

    assert hop_us == reference.hop_us({"over": timedelta(seconds=seconds)})
    assert window_us % hop_us == 0
    assert hop_us * 24 <= window_us or hop_us == time_rule.SECOND_US


@given(TIMES, st.sampled_from(reference.ALLOWED_HOPS), st.integers(1, 100), st.integers(0, 200), st.integers(-1, 1))
def test_a_window_covers_at_least_its_length_and_less_than_a_hop_more(t_us, hop_us, tiles, hops_ago, nudge):
    window_us = hop_us * tiles
    event_us = time_rule.floor_us(t_us, hop_us) - hops_ago * hop_us + nudge
    feature = {
        "over": timedelta(microseconds=window_us),
        "hop": timedelta(microseconds=hop_us),
    }

    held = holds(window_us, hop_us, t_us=t_us, event_us=event_us)

    assert held == reference.in_window(event_us, feature, t_us)
    assert held or not t_us - window_us <= event_us < t_us
    assert not held or t_us - window_us - hop_us < event_us < t_us


@given(TIMES, st.sampled_from(reference.ALLOWED_HOPS), st.integers(1, 100), st.integers(-1, 1))
def test_a_tile_is_held_until_it_leaves_and_never_again(event_us, hop_us, tiles, nudge):
    window_us = hop_us * tiles
    gone_us = time_rule.leaves_at_us(time_rule.floor_us(event_us, hop_us), window_us, hop_us)

    assert holds(window_us, hop_us, t_us=gone_us + nudge, event_us=event_us) == (nudge < 0)


@given(st.integers(1, 10**7))
def test_a_duration_reads_back_from_its_shortest_spelling(seconds):
    micros = seconds * time_rule.SECOND_US

    assert time_rule.parse_duration(time_rule.format_duration(micros)) == micros
    assert reference.duration_us(time_rule.format_duration(micros)) == micros


@given(st.datetimes(timezones=st.timezones()))
def test_a_moment_is_the_same_in_every_zone_and_comes_back(moment):
    micros = time_rule.to_us(moment)

    assert time_rule.from_us(micros) == moment.astimezone(UTC)
    assert time_rule.to_us(time_rule.from_us(micros)) == micros


def test_a_lifetime_reaches_back_beyond_any_event():
    assert time_rule.tail_us(0, None, time_rule.DAY_US) < moment_us("0001-01-01 00:00:00")


def test_the_examples_of_the_module_hold():
    assert doctest.testmod(time_rule).failed == 0


def test_a_duration_beyond_a_hundred_years_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="`over` must be at most 36500d, got '99999999999999d'"):
        time_rule.parse_duration("99999999999999d")
