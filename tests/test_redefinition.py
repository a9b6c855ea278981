"""Two drawn states of a declaration, compared feature by feature with what a dictionary says."""

import shop
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store import FeatureService, FeatureView, Registry, agg
from feature_store.changes import compare, meanings

WINDOWS = ["1h", "24h", "7d"]
NAMES = ["a", "b", "c"]

versions = st.dictionaries(
    st.sampled_from([1, 2]),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(WINDOWS), min_size=1),
    min_size=1,
)
"""Version of the view -> name of a feature -> its meaning."""


@st.composite
def states(draw):
    """What is declared, and the features that a service reads, which are declared."""
    declared = draw(versions)
    features = sorted((version, name) for version, named in declared.items() for name in named)
    return declared, draw(st.lists(st.sampled_from(features), min_size=1, unique=True))


def built(state, words):
    """The registry; `words` describe it and mean nothing."""
    declared, read = state
    views = [
        FeatureView(
            "spending",
            entity=shop.customer,
            source=shop.payments,
            version=version,
            description=words,
            features=[agg.sum("amount", over=window, name=name, description=words) for name, window in named.items()],
        )
        for version, named in declared.items()
    ]
    service = FeatureService("risk", features=[f"spending@{version}:{name}" for version, name in read])
    return Registry(views=views, services=[service])


def told(before, after):
    """Kind, thing and whether it breaks something, by the rule: what is in use keeps its meaning and stays."""
    (old, read), (new, now_read) = before, after
    was = {(v, name): window for v, named in old.items() for name, window in named.items()}
    now = {(v, name): window for v, named in new.items() for name, window in named.items()}
    found = {("created", f"feature spending@{v}:{n}", False) for v, n in now.keys() - was.keys()}
    found |= {
        ("changed", f"feature spending@{v}:{n}", True) for v, n in now.keys() & was.keys() if was[v, n] != now[v, n]
    }
    found |= {("retired", f"feature spending@{v}:{n}", (v, n) in read) for v, n in was.keys() - now.keys()}
    return found | ({("changed", "service risk@1", True)} if read != now_read else set())


@settings(max_examples=300)
@given(before=states(), after=states())
def test_what_two_declarations_differ_in_is_told_feature_by_feature(before, after):
    found = compare(meanings(built(before, "before")), meanings(built(after, "after")))

    changes = [(change.kind, change.what, change.breaking) for change in found]
    assert len(changes) == len(set(changes))
    assert set(changes) == told(before, after)
