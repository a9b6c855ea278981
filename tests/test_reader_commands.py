"""Commands that are packed all at once are the bytes of the same commands, packed one by one."""

import hiredis
import pytest
from fuzzing import tried
from hypothesis import given
from hypothesis import strategies as st
from online_world import departures, item, legs, service, weather

from feature_store.reader.commands import Lookups, commands_of, packed
from feature_store.reader.plan import plan_read

LAST = ("GET", "generation:prod")
HUB = departures(features=("tails",), name="hub", personal=True)
VIEWS = (departures(), weather(), HUB, legs())


def plan(*views, env="prod"):
    items = [item(view.view, view.features[0].name) for view in views]
    return plan_read(env, service(*items), {view.id: view for view in views})


PLANS = {
    "one view": plan(VIEWS[0]),
    "two views of an entity": plan(*VIEWS[:2]),
    "personal data, too": plan(*VIEWS[:3]),
    "two entities": plan(*VIEWS),
    "an environment that is no ASCII": plan(VIEWS[0], env="prüfung"),
}


@tried(30)
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@given(st.data())
def test_packed_at_once_they_are_the_same_bytes(plan, data):
    count = data.draw(st.integers(1, 12)) * len(plan.entities)
    keys = data.draw(st.lists(st.text(max_size=12) | st.text("x7|%", max_size=120), min_size=count, max_size=count))
    one_by_one = [*commands_of(plan, keys), LAST]

    lookups = Lookups(plan, keys, LAST)

    assert packed(lookups, hiredis.pack_command) == packed(one_by_one, hiredis.pack_command)
    assert (len(lookups), [*lookups]) == (len(one_by_one), one_by_one)
    assert (lookups[0], lookups[-1], lookups[1:]) == (one_by_one[0], LAST, one_by_one[1:])
