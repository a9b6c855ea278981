"""What a report says of two versions of a service: how far their features are apart, and how well they score."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from changing_world import DAY, END, LABELLED, NEW, OLD, START, USERS, Deployment, busy

from feature_store import InputError, Registry
from feature_store.changing.comparison import compare_served, stability
from feature_store.cli.app import run
from feature_store.proof.served_log import ServedLog
from feature_store.proof.served_table import append_served
from feature_store.settings import PREFIX

SERVICES = ("clicking@1", "clicking@2")


@pytest.fixture(scope="module")
def served(valkey, tmp_path_factory, module_environment):
    """A deployment that has served every user by both versions."""
    deployment = Deployment(valkey.url, tmp_path_factory.mktemp("report"), module_environment)
    store = deployment.store(LABELLED)
    store.load("clicks", start=START, end=END)
    store.apply()
    deployment.build(store, *OLD, *NEW)
    deployment.stream(store).step()
    rows = [{"user": f"u{number}"} for number in range(USERS)]
    for service in SERVICES:
        log = ServedLog()
        for row in rows:
            log.add(row, store.get_online_features(service, row), vector_id=f"{service}-{row['user']}")
        append_served(store.compiled, store.lake, log.table())
    store.load("clicks", start=END, end=END + DAY)
    yield deployment, store
    deployment.close()


def test_distributions_of_both_versions_stand_beside_each_other(served):
    _, store = served

    found = compare_served(store.compiled, store.lake, SERVICES)

    assert (found.services, found.vectors) == (SERVICES, (USERS, USERS))
    total, count = found.features
    assert (total.name, total.before.missing, total.before.unknown) == ("live:total", 0.0, 0.0)
    assert total.after.quantiles[1] == pytest.approx(2 * total.before.quantiles[1], rel=0.1)
    assert total.psi > 1
    assert (count.name, count.before.quantiles) == ("daily:count", (48.0, 48.0, 48.0))
    assert found.scores is None


def test_the_index_is_nothing_for_equal_samples_and_grows_with_what_moves():
    numbers = pa.array(np.arange(1000.0))
    moved, lost = pa.array(np.arange(1000.0) + 300), pa.array([None if i % 2 else float(i) for i in range(1000)])
    texts, other = pa.array(["a", "b"] * 50), pa.array(["a"] * 75 + ["b"] * 25)

    assert stability(numbers, numbers) == 0
    assert stability(numbers, moved) > 0.25
    assert stability(numbers, lost) > 0.25
    assert stability(texts, other) == pytest.approx(0.25 * math.log(1.5) - 0.25 * math.log(0.5))


@pytest.fixture
def scores(tmp_path):
    """A file of scores: the old model knows nothing, the new one everything."""
    ids = [f"{service}-u{number}" for service in SERVICES for number in range(USERS)]
    values = [0.5] * USERS + [number % 11 / 11 for number in range(USERS)]
    pq.write_table(pa.table({"vector_id": ids, "score": values}), tmp_path / "scores.parquet")
    return tmp_path / "scores.parquet"


def test_scores_are_judged_by_what_happened_afterwards(served, scores):
    _, store = served
    positive = sum(number % 11 > 7 for number in range(USERS))

    old, new = compare_served(store.compiled, store.lake, SERVICES, label="busy", scores=scores).scores

    assert (old.scored, old.positive, old.auc, new.auc) == (USERS, positive, 0.5, 1.0)
    assert old.log_loss == pytest.approx(math.log(2))
    likely = [n % 11 / 11 if n % 11 > 7 else 1 - n % 11 / 11 for n in range(USERS)]
    assert new.log_loss == pytest.approx(-sum(map(math.log, likely)) / USERS)


def test_vectors_without_a_score_or_whose_window_is_open_are_not_judged(served, scores):
    deployment, store = served
    registry = Registry(views=LABELLED.views, services=LABELLED.services, labels=[busy("30d")])
    later = deployment.store(registry)

    found = compare_served(later.compiled, later.lake, SERVICES, label="busy", scores=scores)

    assert [(each.scored, each.auc, each.log_loss) for each in found.scores] == [(0, None, None)] * 2
    pq.write_table(pq.read_table(scores).slice(0, USERS), scores)
    assert compare_served(store.compiled, store.lake, SERVICES, label="busy", scores=scores).scores[1].scored == 0


def test_the_commands_roll_out_and_report(served, scores, monkeypatch, capsys):
    deployment, _ = served
    for name, value in (("HOME", deployment.home), ("ENVIRONMENT", deployment.env), ("REDIS_URL", deployment.url)):
        monkeypatch.setenv(f"{PREFIX}{name}", str(value))
    monkeypatch.setenv(f"{PREFIX}DECLARATIONS", "changing_world:LABELLED")

    def said(*arguments, code=0):
        assert run(["rollout", *arguments]) == code
        out, err = capsys.readouterr()
        return " ".join((out + err).split())

    assert "error: there is nothing to compare: version 2 was never promoted" in said("report", "clicking", code=2)
    assert said("promote", "clicking", "--to", "1") == "service clicking: version 1 is served"
    told = said("shadow", "clicking", "--to", "2", "--share", "50")
    assert told.endswith("version 2 is also read and recorded for 50 % of the entities")
    assert "version 2 is also read" in said("status")
    report = said("report", "clicking", "--label", "busy", "--scores", str(scores))
    assert "48 / 48 / 48 -> 72 / 72 / 72" in report
    assert "clicking@1: 20 vectors; 20 scored with a known outcome, 4 positive: AUC 0.5000, log loss 0.6931" in report
    assert "clicking@2: 20 vectors; 20 scored with a known outcome, 4 positive: AUC 1.0000" in report
    assert said("rollback", "clicking") == "service clicking: version 1 is served"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label": "busy"}, "`label` and `scores` go together"),
        ({"label": "busy", "scores": "gone.parquet"}, "`scores` must be a Parquet file with the columns 'vector_id'"),
        ({"label": "busy", "scores": "odd.parquet"}, r"and 'score' \(a number\), got '.*odd.parquet'"),
        ({"label": "busy", "scores": "text.parquet"}, r"and 'score' \(a number\), got '.*text.parquet'"),
    ],
)
def test_what_cannot_be_judged_is_refused(served, tmp_path, given, message):
    _, store = served
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "odd.parquet")
    pq.write_table(pa.table({"vector_id": ["a"], "score": ["high"]}), tmp_path / "text.parquet")
    if "scores" in given:
        given = {**given, "scores": tmp_path / given["scores"]}

    with pytest.raises(InputError, match=message):
        compare_served(store.compiled, store.lake, SERVICES, **given)
