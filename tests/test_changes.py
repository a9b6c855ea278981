"""What a change of declarations would change, before anything is applied."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import shop

from feature_store import FeatureService, FeatureView, InputError, Registry, agg, ratio
from feature_store.changes import compare, meanings, read_meanings
from feature_store.cli.app import run
from feature_store.settings import PREFIX


def spending(over="24h", version=1):
    features = [agg.count(over=["1h", "24h"]), agg.mean("amount", over=over, name="mean")]
    return FeatureView("spending", entity=shop.customer, source=shop.payments, features=features, version=version)


def registry(*views, features=None, version=1):
    chosen = list(views) if features is None else features
    return Registry(views=views, services=[FeatureService("risk", version=version, features=chosen)])


def said(before, after):
    return [
        (change.kind, change.what, change.breaking) for change in compare(meanings(before), meanings(after))
    ]  # fmt: skip


def test_the_same_declarations_change_nothing():
    assert said(registry(spending()), registry(replace(spending(), description="other words", owner="team:x"))) == []


def test_another_meaning_under_the_same_version_is_breaking():
    assert said(registry(spending()), registry(spending(over="7d"))) == [("changed", "feature spending@1:mean", True)]


def test_another_meaning_beside_the_old_one_is_not():
    before, after = spending(), spending(over="7d", version=2)

    found = said(registry(before), registry(before, after, features=[before]))

    assert {kind for kind, _, _ in found} == {"created"}
    assert not any(breaking for *_, breaking in found)


def test_a_feature_that_a_service_reads_cannot_go_and_one_that_nobody_reads_can():
    whole = spending()
    smaller = replace(whole, features=[feature for feature in whole.declared if feature.name != "count_1h"])
    unread = registry(whole, features=["spending:mean"])

    assert ("retired", "feature spending@1:count_1h", True) in said(registry(whole), registry(smaller))
    assert said(unread, registry(smaller, features=["spending:mean"])) == [
        ("retired", "feature spending@1:count_1h", False)
    ]


def test_a_service_keeps_its_features_and_their_order():
    view = spending()
    one, two = (registry(view, features=names) for names in (["spending:mean", "spending:count_1h"], ["spending:mean"]))

    assert said(one, two) == [("changed", "service risk@1", True)]
    assert said(one, registry(view, features=["spending:mean"], version=2)) == [
        ("retired", "service risk@1", True),
        ("created", "service risk@2", False),
    ]


def test_a_ratio_that_divides_something_else_is_another_ratio():
    view = spending()
    pairs = [("count_1h", "count_24h"), ("count_24h", "count_1h")]
    before, after = (registry(view, features=[ratio("share", view[top], view[bottom])]) for top, bottom in pairs)

    assert said(before, after) == [("changed", "service risk@1", True)]


def test_what_was_exported_is_read_again(tmp_path):
    found = meanings(registry(spending()))
    (tmp_path / "prod.json").write_text(found.to_json())

    assert compare(read_meanings(tmp_path / "prod.json"), found) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("[", "is no exported registry"),
        ("{}", "is no exported registry"),
        (json.dumps({"format": 9}), "has format 9, this version reads 1"),
    ],
)
def test_a_file_that_is_no_export_is_refused(text, message, tmp_path):
    path = tmp_path / "prod.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(InputError, match=message):
        read_meanings(path)


def test_an_environment_is_named_and_one_that_was_not_exported_says_which_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"{PREFIX}DECLARATIONS", "shop:registry")

    assert run(["plan", "--against", "prod"]) == 2
    assert "nothing was exported for environment 'prod' (known: none); `feature-store" in capsys.readouterr().err
    assert run(["export", "--environment", "staging"]) == 0
    assert capsys.readouterr().out.startswith("environments/staging.json: commit it")
    assert run(["plan", "--against", "prod"]) == 2
    assert "for environment 'prod' (known: staging)" in capsys.readouterr().err

    assert run(["plan", "--against", "staging"]) == 0
    assert run(["plan", "--against", "environments/staging.json"]) == 0
    assert capsys.readouterr().out == "nothing changes\nnothing changes\n"


def test_what_cannot_be_exported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"{PREFIX}DECLARATIONS", "shop:registry")
    assert run(["export", "--environment", "../prod"]) == 2
    assert (
        "`--environment` must be lower-case letters, digits and _ (at most 31), got '../prod'"
        in capsys.readouterr().err
    )
    (tmp_path / "environments").write_text("in the way")

    assert run(["export", "--environment", "prod"]) == 2

    assert "'environments/prod.json' cannot be written: File exists" in capsys.readouterr().err


def test_the_commands_need_neither_lake_nor_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"{PREFIX}DECLARATIONS", "shop:registry")
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", "redis://127.0.0.1:1/0")
    assert run(["export"]) == 0
    exported = json.loads(capsys.readouterr().out)
    (tmp_path / "prod.json").write_text(json.dumps(exported))

    assert run(["plan", "--against", "prod.json"]) == 0
    assert capsys.readouterr().out == "nothing changes\n"

    exported["features"]["spending@1:count_1h"] = "other"
    (tmp_path / "prod.json").write_text(json.dumps(exported))
    assert run(["plan", "--against", "prod.json", "--format", "markdown"]) == 3
    shown = capsys.readouterr().out
    assert "| changed, **breaking** | `feature spending@1:count_1h` |" in shown
    assert shown.endswith("1 changed; 1 breaking\n")
    assert list(tmp_path.iterdir()) == [tmp_path / "prod.json"]
