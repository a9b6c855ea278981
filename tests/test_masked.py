"""Personal data where it is shown: a canary goes through everything that prints, and comes out nowhere without being asked for."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import guarded_shop
import pandas as pd
import pyarrow as pa
import pytest
from dagster_world import Deployment, day, midnight, ride
from feature_store_deploy.assets.rejected import rejected_sample
from feature_store_deploy.checks import look, parity, skew, values
from feature_store_deploy.checks.declared import Measurement
from feature_store_deploy.checks.samples import Sample
from feature_store_deploy.checks.window import Days
from hypothesis import given
from hypothesis import strategies as st
from lake_rows import begun
from online_world import World, departures, item, ratio, service

from feature_store import FeatureStore
from feature_store.cli.app import run
from feature_store.dead_letters import KINDS
from feature_store.declare.check import Check
from feature_store.fold.archive import Archiver
from feature_store.fold.run import LocalStream
from feature_store.log.protocol import Record
from feature_store.masked import MASK, masked_payload, masked_reason
from feature_store.proof import append_served
from feature_store.proof.compare import Difference, ProofReport
from feature_store.proof.served_log import ServedLog
from feature_store.proof.verify import FeatureVerdict, Unequal, Verdict
from feature_store.reader import FeatureReader
from feature_store.settings import PREFIX
from feature_store.time_rule import to_us

CANARY, WHO, AMOUNT = "canary-4711", "tweety", 0.123456
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def shop(valkey, tmp_path_factory, module_environment):
    """A shop with one customer, whose payment is online, in the lake and among the dead letters."""
    folder = tmp_path_factory.mktemp("guarded")
    home = begun(folder / "home", module_environment)
    settings = {
        "HOME": home,
        "REDIS_URL": valkey.url,
        "ENVIRONMENT": module_environment,
        "DECLARATIONS": "guarded_shop:registry",
        "FUNCTIONS": "guarded_shop:registry",
    }
    settings |= {"AUDIT_LOG": folder / "audit.jsonl"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(PREFIX + name, str(value))
        patch.setenv("COLUMNS", "200")
        patch.chdir(folder)
        with FeatureStore() as store:
            store.apply()
            at = NOW - timedelta(minutes=5)
            event = {"payment_id": CANARY, "customer": WHO, "amount": AMOUNT, "paid_at": at}
            before = event | {"payment_id": f"{CANARY}-0", "paid_at": at - timedelta(minutes=1)}
            store.publish("payments", [before, event])
            bad = json.dumps(event | {"amount": -AMOUNT, "payment_id": f"{CANARY}-2"}, default=str).encode()
            odd = f'{{"payment_id": "{CANARY}-3", "amount": "{CANARY}"}}'.encode()
            records = [Record("x", payload, store.clock.now_us()) for payload in (bad, odd, CANARY.encode())]
            store.log("payments").publish(records)
            stream = LocalStream(store.compiled, store.lake, store.redis, env=module_environment, clock=store.clock)
            stream.step()
            stream.step()
            assert Archiver(store.compiled, store.lake, store.log("payments"), source="payments").step()
        yield folder


@pytest.fixture
def said(shop, capsys):
    def say(*command):
        capsys.readouterr()
        code = run(list(command))
        out, err = capsys.readouterr()
        assert code == 0, err
        return out + err

    return say


def hides(text):
    return not any(secret in text for secret in (CANARY, WHO, str(AMOUNT)))


def audit(shop):
    path = shop / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


FEATURES = "profile:count_24h,profile:payment_id_last_7d"
KEY = f"customer={WHO}"


@pytest.mark.parametrize(
    ("command", "noted"),
    [
        (("get", FEATURES, KEY), f"get {FEATURES}"),
        (("get", "person", KEY), "get person"),
        (("get", "scored", KEY, "amount=5"), "get scored"),
        (("explain", "profile:payment_id_last_7d", KEY), "explain profile@1:payment_id_last_7d"),
    ],
)
def test_a_command_masks_personal_values_until_somebody_wants_to_see_them_which_is_noted(shop, said, command, noted):
    before = len(audit(shop))

    shown = said(*command)
    assert hides(shown)
    assert "***" in shown
    assert "`--reveal` shows it" in shown
    assert len(audit(shop)) == before

    revealed = said(*command, "--reveal")
    assert WHO in revealed
    assert CANARY in revealed
    [line] = audit(shop)[before:]
    assert (line["did"], line["what"]) == ("reveal", noted)
    assert "@" in line["by"]
    assert hides(json.dumps(line))


def test_what_is_not_personal_is_shown_as_ever(said):
    assert WHO in said("get", "spending:count_24h", KEY)
    assert "PRESENT" in said("get", FEATURES, KEY)
    person = said("get", "person", KEY)
    assert "0.123456" not in said("get", "profile:count_24h", KEY)
    assert "spending:count_24h" in person


def test_dead_letters_say_why_without_what_they_held(shop, said):
    listed = said("dead-letters", "list")

    assert hides(listed)
    assert "column 'amount'" in listed
    with FeatureStore() as store, store.lake.reading() as cursor:
        rows = cursor.execute(
            f'SELECT "partition", "offset" FROM {store.lake.table_sql("rejected_events")} WHERE kind = ?', [KINDS[0]]
        ).fetchall()
    assert len(rows) == 3
    from feature_store.dead_letters import place_name

    shown = [said("dead-letters", "show", "payments", place_name(*row)) for row in rows]
    assert all(map(hides, shown))
    assert any('{"payment_id": "***", "customer": "***", "amount": "***", "paid_at": "***"}' in text for text in shown)
    assert any("characters that are no JSON object" in text for text in shown)
    before = len(audit(shop))
    assert CANARY in said("dead-letters", "show", "payments", place_name(*rows[0]), "--reveal")
    assert audit(shop)[before]["did"] == "reveal"
    replayed = said("dead-letters", "replay", "payments")
    assert "still rejected" in replayed
    assert hides(replayed)


def test_results_in_a_notebook_mask_what_is_personal_and_have_it(shop):
    with FeatureStore() as store:
        spine = pd.DataFrame({"customer": [WHO], "event_timestamp": [pd.Timestamp(NOW)]})
        training = store.get_historical_features(
            spine,
            ["profile:payment_id_last_7d", "spending:count_24h"],
            allow_incomplete=True,
            knowledge="corrected",
        )
        over = store.over_time(
            "profile:payment_id_last_7d",
            entity={"customer": WHO},
            start=NOW - timedelta(hours=1),
            end=NOW,
            knowledge="corrected",
        )
        spread = store.distribution("profile:payment_id_last_7d", at=NOW, knowledge="corrected")
        vector = store.get_online_features("person", {"customer": WHO})
        explained = store.explain("profile:count_24h", {"customer": WHO})
        plain = store.get_historical_features(spine, ["spending:count_24h"], allow_incomplete=True)

        shown = [repr(each) + each._repr_html_() for each in (training, over, spread, vector)] + [repr(explained)]

    assert all(map(hides, shown))
    assert all("***" in text for text in shown)
    assert training.to_pandas()["profile__payment_id_last_7d"].tolist() == [CANARY]
    assert CANARY in over.to_pandas()["value"].tolist()
    assert vector["profile:payment_id_last_7d"].value == CANARY
    assert WHO in plain._repr_html_()


def test_a_ratio_of_personal_data_is_personal(valkey, environment):
    world = World(valkey.url, environment)
    view = departures(name="guests", personal=True)
    count, mean = item("guests", "count_1h"), item("guests", "mean_1h")
    world.publish(view, departures(), services=[service(ratio("share", count, mean), item("departures", "count_1h"))])
    world.put(view, "JFK", 3, 12.0)
    world.put(departures(), "JFK", 77, 12.0)
    world.ready()

    with FeatureReader(world.url, env=environment, clock=world.clock) as reader:
        vector = reader.get_online_features("delay", {"origin": "JFK"})

    assert vector.values == [0.25, 77]
    assert repr(vector) == "FeatureVector(share=*** PRESENT, departures:count_1h=77 PRESENT)"


def test_what_functions_make_of_personal_data_is_personal(shop):
    paid_at = NOW - timedelta(minutes=5)
    spine = pd.DataFrame({"customer": [WHO], "amount": [21.0], "event_timestamp": [pd.Timestamp(NOW)]})
    with FeatureStore() as store:
        training = store.get_historical_features(spine, "scored", allow_incomplete=True, knowledge="corrected")
        vector = store.get_online_features("scored", {"customer": WHO, "amount": 21.0})
        own = store.get_online_features("scored", {"customer": WHO, "amount": 21.0}, as_of=paid_at)

        shown = [repr(each) + each._repr_html_() for each in (training, vector, own)]

    assert training.personal == {"customer", "again", "named"}
    assert vector.personal == own.personal == {"again", "named"}
    assert vector.personal_views == ("profile",)
    assert [vector.values, own.values] == [[CANARY, WHO, 42.0], [f"{CANARY}-0", WHO, 42.0]]
    assert all(map(hides, shown))
    assert all("***" in text and "42.0" in text for text in shown)


def test_a_function_that_fails_on_personal_data_does_not_log_it(shop, caplog):
    with FeatureStore() as store:
        vector = store.get_online_features("broken", {"customer": WHO})

    assert vector["failing"].status.name == "ERROR"
    assert "on-demand function 'failing', row 0: failed on personal data" in caplog.text
    assert hides(caplog.text)


def test_pages_of_dagster_mask_what_is_personal(shop):
    difference = Difference(
        vector="v1", feature="profile:payment_id_last_7d", served=CANARY, served_status="PRESENT", recomputed=f"{CANARY}-x",
        recomputed_status="PRESENT", as_of_us=1, run=1, n=1,
    )  # fmt: skip
    unequal = Unequal(difference=difference, entity={"customer": WHO}, cause="logic", detail="none", personal=True)
    verdict = Verdict(
        service="person@1", vectors=1, pending=0, unknown=0, stale_unequal=0, oracle_values=0, oracle_unequal=0,
        features=[FeatureVerdict(feature="profile:payment_id_last_7d", values=1, unequal=1, causes={"logic": 1})],
        unequals=[unequal],
    )  # fmt: skip
    report = ProofReport(
        vectors=1, values=1, unequal=1, unknown=0, stale_unequal=0, by_feature={}, differences=[difference]
    )

    told = [skew.judge(verdict, None).metadata["differences"].md_str]
    told += [value.md_str for value in parity._told(report, personal=True).values() if hasattr(value, "md_str")]

    assert len(told) == 2
    assert all(map(hides, told))
    assert all("***" in text for text in told)
    assert "canary" in str(parity._told(report, personal=False))
    assert [hides(repr(each)) for each in (verdict, verdict.masked)] == [False, True]


def test_no_page_of_any_asset_or_check_shows_personal_data(tmp_path, valkey, environment):
    """Whatever can be made under Dagster is made, of rides of which one is refused and one contradicts another."""
    rides = [ride(f"{CANARY}-{n}", at=n * 0.25, fare=4711.125, name=WHO) for n in range(20)]
    refused = ride(f"{CANARY}-refused", at=1.1, fare=-4711.125, name=WHO)
    made = Deployment(tmp_path, url=valkey.url, environment=environment, pii="email")
    made.rows = [*rides, refused, rides[9] | {"fare": 4711.25}]
    made.clock.move_to(to_us(midnight(5)) + 1)
    keys = {"/".join(key.path[1:]) for key in made.definitions.resolve_asset_graph().executable_asset_keys}
    days = {key for key in keys if key.startswith(("events/", "tiles/", "rows/"))}
    results = [made.run("events/rides", first=day(0), last=day(4))]
    made.rows = rides
    with made.store() as store:
        store.apply()
        results += [made.run(*days, first=day(0), last=day(4)), made.run("online/daily")]
        served = ServedLog("pricing@1")
        served.add({"city": WHO}, store.get_online_features("pricing", {"city": WHO}))
        append_served(store.compiled, store.lake, served.table())
    results += [made.run(*sorted(keys - days), past=False)]

    told = [each.materialization for result in results for each in result.get_asset_materialization_events()]
    judged = [each for result in results for each in result.get_asset_check_evaluations()]
    pages = [
        (each.asset_key.path[1:], name, value.value)
        for each in (*told, *judged)
        for name, value in each.metadata.items()
    ]
    previews = [(key, text) for key, name, text in pages if name == "preview"]

    assert {"/".join(each.asset_key.path[1:]) for each in told} == keys
    assert [page for page in pages if not _shows_nobody(page[2])] == []
    assert [each.description for each in judged if not _shows_nobody(each.description)] == []
    assert {key[0] for key, _ in previews} == {"events", "tiles", "rows", "online", "served", "training"}
    assert all("***" in text for _, text in previews)


def _shows_nobody(value):
    return not any(secret in str(value) for secret in (CANARY, WHO, "4711"))


def test_a_sample_of_rejected_rows_has_their_form_alone(shop):
    with FeatureStore() as store:
        store.lake.ensure_source("payments", store.compiled.schemas["payments"])
        (shop / "payments.csv").write_text(
            f"payment_id,customer,amount,paid_at\n{CANARY}-9,{WHO},-5.0,2026-03-01 09:00:00Z\n"
        )
        days = {"start": datetime(2026, 3, 1, tzinfo=UTC), "end": datetime(2026, 3, 2, tzinfo=UTC)}
        store.load("payments", **days)
        sample = rejected_sample(store, guarded_shop.shop.payments, **days)

    assert hides(sample)
    assert '"payment_id": "***"' in sample


@pytest.mark.parametrize("view", [guarded_shop.profile, guarded_shop.shop.spending], ids=["personal", "plain"])
def test_a_drift_report_of_personal_data_has_no_page_with_its_values(shop, monkeypatch, view):
    pages = []
    nothing = Measurement(figures=(), reference="", sample_size=0, method="")
    monkeypatch.setattr(look, "sample_view", lambda *_, **__: Sample(pa.table({})))
    monkeypatch.setattr(values, "measure_drift", lambda *_, report, **__: pages.append(report) or nothing)
    days = {"days": Days.parse("2026-03-02"), "reference": Days.parse("2026-03-01")}

    with FeatureStore() as store:
        list(values.evaluate_values(store, view, view.source, dg.AssetKey("any"), {"drift": Check()}, **days))

    assert [page is None for page in pages] == [view.is_personal]


SECRETS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=6, max_size=12).filter(
    lambda text: not any(text in each for each in TEMPLATES)
)
TEMPLATES = (
    "column 'amount': must be at least 0, got {!r}",
    "column 'amount': must be at least 0, got {}",
    "event id '{}' was seen before with another payload",
    "unknown column '{}'; did you mean 'amount'?",
    'Could not convert "{}" with type str: tried to convert to int64',
    "column 'amount': '{}' is no number",
)


@given(SECRETS, st.sampled_from(TEMPLATES))
def test_no_reason_keeps_what_came(secret, template):
    shown = masked_reason(template.format(secret), known={"amount", "customer"})

    assert secret not in shown
    assert str(MASK) in shown


@given(
    st.recursive(
        SECRETS | st.none() | st.floats() | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(st.just("name"), inner),
        max_leaves=6,
    )
)
def test_no_payload_keeps_a_value(value):
    shown = json.loads(masked_payload(json.dumps({"field": value})))

    def leaves(found):
        if isinstance(found, dict):
            return [leaf for each in found.values() for leaf in leaves(each)]
        return [leaf for each in found for leaf in leaves(each)] if isinstance(found, list) else [found]

    assert set(leaves(shown)) <= {"***", None}
