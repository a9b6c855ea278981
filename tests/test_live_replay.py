"""The feed of `make up`: December 2013, for ever."""

from datetime import UTC, datetime, timedelta

import pytest

from demo.live import ROUND, feed
from features.flights import LIVE_FROM, arrival_order

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("moment", ["2026-07-01T13:00Z", "2031-01-01T13:00Z", "2013-12-11T13:00Z"])
def test_at_any_time_flights_arrive_in_order_and_at_their_hour_of_the_week(moment):
    start = datetime.fromisoformat(moment)

    events = list(feed(start, start + 6 * HOUR))

    assert len(events) > 100
    assert all(start <= event.arrived_at < start + 6 * HOUR for event in events)
    assert [event.arrived_at for event in events] == sorted(event.arrived_at for event in events)
    shift = (start - LIVE_FROM) // ROUND * ROUND
    assert shift % timedelta(weeks=1) == timedelta(0)
    original = list(arrival_order(start - shift, start - shift + 6 * HOUR))
    assert [event.event_time - shift for event in events] == [event.event_time for event in original]


def test_rounds_follow_each_other_without_gap_or_repetition():
    seam = datetime(2013, 12, 29, tzinfo=UTC) + ROUND
    whole = [(event.source, event.event_id) for event in feed(seam - 12 * HOUR, seam + 12 * HOUR)]
    parts = [
        (event.source, event.event_id)
        for hour in range(-12, 12)
        for event in feed(seam + hour * HOUR, seam + (hour + 1) * HOUR)
    ]

    assert whole == parts
    assert len(set(whole)) == len(whole)
    before = {(event.source, event.event_id) for event in feed(seam - ROUND, seam - ROUND + 12 * HOUR)}
    assert not before & set(whole)
