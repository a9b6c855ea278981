"""Accepted events become rows of each view, dealt out by entity."""

import pytest
from stream_world import PLANS, accepted, batches_of, rows

from feature_store.fold.split import Splitter
from feature_store.online.keys import shard_of


def contributions(batch, view):
    """(entity, event id) of each row of a view."""
    found = batch.views.get(view)
    return [] if found is None else [(found.keys[k], i) for k, i in zip(found.key, found.event_id, strict=True)]


def one(**changes):
    row = {**rows(1)[0], "site": "north", "kind": 1, "level": 5}
    return row | changes


@pytest.mark.parametrize(
    ("changes", "site", "kind"),
    [
        ({}, ["north"], ["north|1"]),
        ({"kind": None}, ["north"], []),
        ({"site": None}, [], []),
        ({"level": None}, ["north"], []),
        ({"level": -1}, ["north"], []),
        ({"site": "a|b{}%"}, ["a%7Cb%7B%7D%25"], ["a%7Cb%7B%7D%25|1"]),
    ],
)
def test_an_event_counts_where_its_key_is_whole_and_the_condition_holds(changes, site, kind):
    [batch] = batches_of(accepted([one(**changes)]))

    assert [key for key, _ in contributions(batch, "sites@1")] == site
    assert [key for key, _ in contributions(batch, "kinds@1")] == kind


def test_shards_share_the_rows_out_by_entity():
    events = accepted(rows(200, seed=1))
    [whole] = batches_of(events)
    parts = batches_of(events, shards=3)

    assert [part.shard for part in parts] == [0, 1, 2]
    for view, entity in (("sites@1", "site"), ("kinds@1", "meter")):
        dealt = [row for part in parts for row in contributions(part, view)]
        assert sorted(dealt) == sorted(contributions(whole, view))
        for part in parts:
            assert {shard_of(entity, key, shards=3) for key, _ in contributions(part, view)} <= {part.shard}


def test_within_a_shard_rows_stay_in_the_order_of_the_log():
    events = accepted(rows(50, seed=2))
    order = {uid: n for n, uid in enumerate(events.column("uid").to_pylist())}

    for part in batches_of(events, shards=2):
        places = [order[event_id] for _, event_id in contributions(part, "sites@1")]
        assert places == sorted(places)


def test_positions_go_on_in_every_shard_even_without_rows():
    parts = Splitter("readings", PLANS, shards=2).split(accepted([]), {1: 77})

    assert [(part.positions, dict(part.views), part.source) for part in parts] == [({1: 77}, {}, "readings")] * 2


def test_views_that_are_not_streamed_have_no_rows():
    [batch] = Splitter("readings", [], shards=1).split(accepted(rows(3)), {0: 3})

    assert dict(batch.views) == {}
