"""The catalog beside the API: what is on record, what is published, who is told what, and how the page is served."""

import asyncio
import json
import re
import subprocess
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from absent import NO_NODE, NODE
from catalog_world import HOSTILE, NOON, CatalogWorld, registry, spending
from online_world import NOW_US, World, departures, weather

from feature_store import Registry, Settings
from feature_store.catalog.book import BOOK, catalog_fields, read_revisions
from feature_store.catalog.document import (
    DECLARED,
    ViewEntry,
    history_field,
    pack,
    unpack_catalog,
    unpack_history,
)
from feature_store.catalog.statistics import CATEGORIES, feature_statistics, sample_spine
from feature_store.changes import meanings
from feature_store.errors import SettingsError
from feature_store.online.keys import catalog_key, statistics_key
from feature_store.reader import FeatureReader
from feature_store.reader.readiness import Progress, parse_readiness
from feature_store.restore import publish_again
from feature_store.serving.app import build_app
from feature_store.serving.freshness import freshness_of
from feature_store.serving.site import HEADERS
from feature_store.time_rule import HOUR_US, MINUTE_US, SECOND_US

PAGE = Path(__file__).parent.parent / "feature_store" / "serving" / "page"


@pytest.fixture(scope="module")
def shop(valkey, module_environment, tmp_path_factory):
    """Applied twice, with a week of events measured."""
    made = CatalogWorld(valkey.url, module_environment, tmp_path_factory.mktemp("shop"))
    made.measure()
    made.live()
    return made


@contextmanager
def keys(shop):
    """Keys exist for a while."""
    before = shop.keyring
    try:
        yield shop.key
    finally:
        shop.have(before)


def ask(app, *paths, key=None, **headers):
    """The answers to requests, one after the other, of one server."""
    headers |= {} if key is None else {"authorization": f"Bearer {key}"}

    async def run():
        async with client_of(app) as client:
            return [await client.get(path, headers=headers) for path in paths]

    return asyncio.run(run())


@asynccontextmanager
async def client_of(app):
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


def told(shop, path, key=None):
    [answer] = ask(shop.app(), path, key=key)
    assert answer.status_code == 200, answer.text
    return answer.json()


def named(things):
    return {thing["name"] if "version" not in thing else f"{thing['name']}@{thing['version']}" for thing in things}


# ---- what is declared


def test_the_catalog_tells_of_everything_that_is_declared(shop):
    found = told(shop, "/v1/catalog")

    assert named(found["views"]) == {"spending@1", "spending@2", "profile@1", "habits@1"}
    assert named(found["services"]) == {"fraud@1", "fraud@2", "marketing@1"}
    assert named(found["sources"]) == {"payments"}
    assert named(found["entities"]) == {"customer"}
    [view] = [each for each in found["views"] if (each["name"], each["version"]) == ("spending", 2)]
    assert (view["owner"], view["sla"], view["where"], view["tags"]["tier"]) == (
        "team:fraud",
        "5m",
        "amount > 0",
        "gold",
    )
    mean = view["features"][1]
    assert (mean["aggregate"], mean["column"], mean["window"], mean["hop"]) == ("mean", "amount", "7d", "6h")
    assert mean["window_error"] == 6 / (7 * 24)
    assert view["assets"] == [["tiles", "spending_v2"], ["online", "spending_v2"]]
    [payments] = found["sources"]
    assert (payments["event_time"], payments["event_id"], payments["log"]) == (
        "paid_at", ["payment_id"], "Redis Streams: payments",
    )  # fmt: skip
    assert {column["name"]: column["description"] for column in payments["columns"]}["country"] == "Two letters"


def test_a_service_tells_what_each_of_its_features_is_made_of(shop):
    [fraud] = [
        each for each in told(shop, "/v1/catalog")["services"] if (each["name"], each["version"]) == ("fraud", 2)
    ]
    features = {each["name"]: each for each in fraud["features"]}

    assert list(features)[-3:] == ["habits:amount_max_7d", "share_of_hour", "times_the_usual"]
    assert features["spending:amount_mean"]["reads"] == ["spending@2:amount_mean"]
    assert features["share_of_hour"]["inputs"] == {
        "numerator": "spending@2:count_1h", "denominator": "spending@2:amount_mean",
    }  # fmt: skip
    usual = features["times_the_usual"]
    assert usual["inputs"] == {"amount": "amount: float of the request", "usual": "spending@2:amount_mean"}
    assert "return amount / usual" in usual["code"]
    assert (fraud["keys"], fraud["requests"]) == (["customer"], {"amount": "float"})


def test_versions_are_told_with_what_they_changed(shop):
    newest, first = told(shop, "/v1/catalog/views/spending")["versions"]

    assert (newest["id"], first["id"], first["changes"]) == ("spending@2", "spending@1", [])
    changes = {(each["of"], each["field"]): (each["before"], each["after"]) for each in newest["changes"]}
    assert changes == {
        ("", "description"): ("How much a customer has paid of late", "How much a customer has paid in a week"),
        ("amount_mean", "window"): ("1d", "7d"),
        ("amount_mean", "hop"): ("1h", "6h"),
    }
    added = told(shop, "/v1/catalog/services/fraud")["versions"][0]["changes"]
    assert ("times_the_usual", "", None) in [(each["of"], each["field"], each["before"]) for each in added]


def test_another_description_or_owner_is_on_record_without_a_version_of_the_registry(valkey, environment, tmp_path):
    world = CatalogWorld(valkey.url, environment, tmp_path)
    again = [view for view in registry().views if view.id != "spending@1"]

    with world.store() as store:
        version, rows = store.applied().version, len(_rows(store.lake))
    world.clock.at_us += HOUR_US
    world.apply(registry())
    with world.store() as store:
        assert len(_rows(store.lake)) == rows
    world.apply(Registry(views=[spending(owner="team:risk"), *again], services=registry().services))
    with world.store() as store:
        assert (len(_rows(store.lake)), store.applied().version) == (rows + 1, version)

    last = next(each for each in told(world, "/v1/catalog/views/spending")["versions"] if each["id"] == "spending@1")
    assert [(each["field"], each["before"], each["after"]) for each in last["changes"]] == [
        ("owner", "team:fraud", "team:risk")
    ]


def _rows(lake):
    with lake.reading() as cursor:
        return cursor.execute(f"SELECT kind, id FROM {lake.table_sql(BOOK)}").fetchall()


def test_what_is_retired_leaves_the_catalog_and_an_emptied_store_gets_it_back(valkey, environment, tmp_path):
    world = CatalogWorld(valkey.url, environment, tmp_path)
    declared = registry()
    left = Registry(
        views=[view for view in declared.views if view.id != "profile@1"],
        services=[each for each in declared.services if each.name != "marketing"],
    )

    with world.store(left) as store:
        store.retire("marketing@1", service=True)
        store.retire("profile@1")
    found = told(world, "/v1/catalog")
    assert "profile@1" not in named(found["views"])
    assert "marketing@1" not in named(found["services"])

    published = world.client.hgetall(catalog_key(environment))
    world.client.delete(catalog_key(environment))
    with world.store(left) as store:
        publish_again(store.compiled, store.lake, store.redis, env=environment, clock=world.clock)
    assert world.client.hgetall(catalog_key(environment)) == published


def test_a_server_keeps_what_it_knew_while_the_store_has_lost_it(shop, monkeypatch):
    monkeypatch.setattr("feature_store.serving.catalog.AGE_S", 0.0)
    app, kept = shop.app(), shop.client.hgetall(catalog_key(shop.env))

    async def run():
        async with client_of(app) as client:
            before = (await client.get("/v1/catalog")).json()
            shop.client.delete(catalog_key(shop.env))
            lost = (await client.get("/v1/catalog")).json()
            shop.client.hset(catalog_key(shop.env), DECLARED, b"nonsense")
            broken = await client.get("/v1/catalog")
            return before, lost, broken

    try:
        before, lost, broken = asyncio.run(run())
    finally:
        shop.client.hset(catalog_key(shop.env), mapping=kept)
    assert lost == before
    assert (broken.status_code, "feature-store apply" in broken.json()["detail"]) == (503, True)


def test_nothing_published_yet_is_an_empty_catalog(valkey, environment):
    world = World(valkey.url, environment)
    world.publish(departures())

    [answer] = ask(build_app(world.url, env=environment), "/v1/catalog")

    assert (answer.status_code, answer.json()["views"]) == (200, [])


def test_two_thousand_features_are_a_small_document(shop):
    with shop.store() as store:
        catalog = unpack_catalog(catalog_fields(read_revisions(store.lake), meanings(store.registry))[DECLARED])
    view = catalog.views[-1]
    many = [
        msgspec.structs.replace(
            view, name=f"view_{n}", features=[
                msgspec.structs.replace(view.features[0], name=f"feature_{n}_{m}", description=f"text {n * m} of {m}")
                for m in range(20)
            ],
        )
        for n in range(100)
    ]  # fmt: skip

    assert len(pack(msgspec.structs.replace(catalog, views=many))) < 60_000


# ---- who is told what


def test_a_key_sees_what_it_may_read_and_no_more(shop):
    with keys(shop) as key:
        of_fraud = told(shop, "/v1/catalog", key(services=("fraud",)))
        of_view = told(shop, "/v1/catalog", key(views=("spending",)))
        of_source = told(shop, "/v1/catalog", key(sources=("payments",)))
        of_marketing = told(shop, "/v1/catalog", key(services=("marketing",)))
        of_person = told(shop, "/v1/catalog", key(services=("marketing",), personal=("profile",)))

    assert named(of_fraud["services"]) == {"fraud@1", "fraud@2"}
    assert named(of_fraud["views"]) == {"spending@1", "spending@2", "habits@1"}
    assert named(of_view["views"]) == {"spending@1", "spending@2"}
    assert (of_view["services"], of_view["served"]) == ([], {})
    assert (named(of_source["sources"]), of_source["views"], of_source["entities"]) == ({"payments"}, [], [])
    assert [of_marketing[name] for name in ("services", "views", "sources", "entities")] == [[], [], [], []]
    assert named(of_person["views"]) == {"spending@1", "profile@1"}
    assert [each["name"] for view in of_person["views"] for each in view["features"] if view["name"] == "spending"] == [
        "count_1h"
    ]


def test_a_name_that_there_is_not_is_told_to_who_may_read_what_has_that_name(shop):
    with keys(shop) as key:
        reader = key(views=("*",), services=("*",))
        unknown, hidden, service = ask(
            shop.app(),
            "/v1/catalog/views/spendin",
            "/v1/catalog/views/profile",
            "/v1/catalog/services/none",
            key=reader,
        )

    assert (unknown.status_code, unknown.json()["known"]) == (404, ["habits", "spending"])
    assert (hidden.status_code, hidden.json()["grant"]) == (403, "personal:profile")
    assert service.status_code == 404


def test_of_a_view_that_only_a_service_reads_other_features_stay_unknown(shop):
    with keys(shop) as key:
        text = key(services=("marketing",), personal=("profile",))
        found = told(shop, "/v1/catalog/views/spending", text)
        hidden, unknown, fresh = ask(
            shop.app(), "/v1/catalog/views/habits", "/v1/catalog/views/nothing", "/v1/catalog/freshness", key=text
        )

    assert {each["of"] for version in found["versions"] for each in version["changes"]} <= {"", "count_1h"}
    assert [each["name"] for each in found["statistics"]["spending@1"]["features"]] == ["count_1h"]
    assert set(found["statistics"]) == {"spending@1"}
    assert {version["applied_by"] for version in found["versions"]} == {None}
    assert "amount_mean" not in json.dumps(found)
    assert (hidden.status_code, unknown.status_code) == (403, 403)
    assert set(fresh.json()) == {"spending@1", "profile@1"}


def test_a_version_that_was_personal_data_stays_untold_to_who_may_not_read_it(shop):
    field = history_field("view", "spending")
    kept = shop.client.hget(catalog_key(shop.env), field)
    history = unpack_history(kept)
    entry = msgspec.json.decode(history[-1].definition, type=ViewEntry)
    entry = msgspec.structs.replace(entry, version=3, personal=True, description="whom one pays for what")
    shop.client.hset(catalog_key(shop.env), field, pack([*history, msgspec.structs.replace(
        history[-1], id="spending@3", applied_us=history[-1].applied_us + 1, definition=msgspec.Raw(msgspec.json.encode(entry)),
    )]))  # fmt: skip
    try:
        with keys(shop) as key:
            grants = ({"views": ("spending",)}, {"views": ("spending",), "personal": ("spending",)}, {"admin": True})
            seen = [told(shop, "/v1/catalog/views/spending", key(**each))["versions"] for each in grants]
    finally:
        shop.client.hset(catalog_key(shop.env), field, kept)

    assert [[version["id"] for version in versions] for versions in seen] == [
        ["spending@2", "spending@1"],
        ["spending@3", "spending@2", "spending@1"],
        ["spending@3", "spending@2", "spending@1"],
    ]


def test_without_a_key_that_works_nothing_is_told_but_the_page_is(shop):
    with keys(shop) as key:
        key(admin=True)
        paths = ("/v1/catalog", "/v1/catalog/freshness", "/v1/catalog/views/spending", "/catalog", "/catalog/app.js")
        answers = ask(shop.app(), *paths)

    assert [answer.status_code for answer in answers] == [401, 401, 401, 200, 200]
    assert not any("spending" in answer.text for answer in answers)


def test_who_administers_is_told_who_applied_and_what_there_is_not(shop):
    with keys(shop) as key:
        text = key(admin=True)
        found = told(shop, "/v1/catalog/views/spending", text)
        view, group = ask(shop.app(), "/v1/catalog/views/spendings", "/v1/catalog/things/spending", key=text)

    assert all("@" in version["applied_by"] for version in found["versions"])
    assert (view.status_code, "spending" in view.json()["known"]) == (404, True)
    assert (group.status_code, group.json()["known"]) == (404, ["services", "sources", "views"])


def test_what_a_key_sees_changes_with_its_grants_in_one_running_server(shop, monkeypatch):
    monkeypatch.setattr("feature_store.serving.guard.LOOK_S", 0.0)

    async def run(text):
        async with client_of(shop.app()) as client:
            headers = {"authorization": f"Bearer {text}"}
            before = (await client.get("/v1/catalog", headers=headers)).json()
            found = shop.keyring.key(text.split("_")[1])
            grants = msgspec.structs.replace(found.grants, views=("habits",))
            shop.have(shop.keyring.with_key(msgspec.structs.replace(found, grants=grants)))
            return before, (await client.get("/v1/catalog", headers=headers)).json()

    with keys(shop) as key:
        before, after = asyncio.run(run(key(views=("spending",))))

    assert (named(before["views"]), named(after["views"])) == ({"spending@1", "spending@2"}, {"habits@1"})


# ---- how values are distributed, and how fresh they are


def test_statistics_are_those_of_the_training_set_over_the_same_moments(shop):
    found = told(shop, "/v1/catalog/views/spending")["statistics"]["spending@2"]
    with shop.store() as store:
        last = (NOON - timedelta(days=1)).date()
        spine = sample_spine(store.lake, spending(2, over="7d"), last - timedelta(days=6), last, rows=2000)
        training = store.get_historical_features(spine, ["spending@2:amount_mean"], knowledge="corrected").to_pandas()
    values = training["spending__amount_mean"]

    mean = found["features"][1]
    assert (found["rows"], found["last"]) == (len(values), str(last))
    assert mean["missing"] == values.isna().mean()
    assert dict(mean["quantiles"])["median"] == np.median(values.dropna())
    assert sum(count for *_, count in mean["bins"]) == values.notna().sum()
    country = found["features"][2]
    assert {value for value, _ in country["common"]} == {"de", "fr", "nl"}


def test_personal_data_has_no_statistics_and_names_are_not_shown(shop):
    assert told(shop, "/v1/catalog/views/profile")["statistics"] == {}
    assert set(shop.client.hkeys(statistics_key(shop.env))) == {b"spending@1", b"spending@2", b"habits@1"}

    names = feature_statistics("name", pa.array([f"person {n}" for n in range(CATEGORIES + 1)]))
    lists = feature_statistics("list", pa.array([["a"], None]))
    odd = feature_statistics("odd", pa.array([float("nan"), float("inf"), 1.0, None]))

    assert (names.common, names.distinct) == ((), CATEGORIES + 1)
    assert (lists.distinct, lists.missing) == (None, 0.5)
    assert (odd.mean, odd.bins) == (1.0, [])


@pytest.mark.parametrize("behind_us", [0, 4 * MINUTE_US, 5 * MINUTE_US, 5 * MINUTE_US + SECOND_US])
def test_a_stream_view_is_as_fresh_as_readers_see_it(valkey, environment, behind_us):
    world = World(valkey.url, environment)
    world.publish(departures())
    world.put(departures(), "JFK", 3, 12.0, age_us=behind_us)
    world.ready(oldest_unread_us=NOW_US - behind_us)

    found = _freshness(world)["departures@1"]

    assert found["state"] == {"PRESENT": "fresh", "STALE": "stale"}[_status(world, "departures:count_1h")]
    assert found["age_s"] == behind_us / 1e6


@pytest.mark.parametrize("age_us", [HOUR_US, 2 * HOUR_US, 2 * HOUR_US + 1, 3 * HOUR_US, 3 * HOUR_US + 1])
def test_a_batch_view_is_as_fresh_as_readers_see_it(valkey, environment, age_us):
    world = World(valkey.url, environment)
    world.publish(weather())
    world.put(weather(), "JFK", 3.0, from_us=NOW_US - age_us, commit=(0, 1))
    world.ready("weather@1", beat_us=NOW_US - age_us)

    states = {"PRESENT": "fresh", "STALE": "stale", "UNKNOWN": "unknown"}
    assert _freshness(world)["weather@1"]["state"] == states[_status(world, "weather:wind")]


def test_a_view_that_nobody_vouches_for_is_not_known_or_still_computed(valkey, environment):
    world = World(valkey.url, environment)
    world.publish(departures(), weather())

    assert {each["state"] for each in _freshness(world).values()} == {"unknown"}
    world.ready(views={})
    assert {name: each["state"] for name, each in _freshness(world).items()} == {
        "departures@1": "catching_up", "weather@1": "unknown",
    }  # fmt: skip


def _freshness(world):
    """What is told of views that only have layouts: as if they were in the catalog, too."""
    ready, generation = (
        world.client.hgetall(f"ready:{world.env}"),
        world.client.get(f"generation:{world.env}"),
    )
    readiness = parse_readiness(generation, ready, progress=Progress(), now_us=NOW_US, now_s=0.0)
    return {
        name: msgspec.to_builtins(freshness_of(view, readiness, now_us=NOW_US)) for name, view in world.views.items()
    }


def _status(world, feature):
    with FeatureReader(world.url, env=world.env, clock=world.clock) as reader:
        return reader.get_online_features([feature], {"origin": "JFK"})[feature].status.name


def test_freshness_is_told_of_what_is_served(shop):
    found = told(shop, "/v1/catalog/freshness")

    assert {name: each["state"] for name, each in found.items()} == {
        "spending@1": "fresh", "spending@2": "fresh", "profile@1": "fresh", "habits@1": "unknown",
    }  # fmt: skip
    assert (found["spending@1"]["age_s"], found["spending@1"]["sla_s"]) == (2.0, 300.0)


# ---- the page


def test_every_file_of_the_page_comes_with_a_strict_policy(shop):
    names = sorted(path.name for path in PAGE.iterdir())
    answers = dict(zip(names, ask(shop.app(), *(f"/catalog/{name}" for name in names)), strict=True))

    for name, answer in answers.items():
        assert answer.status_code == 200, name
        assert HEADERS.items() <= {**dict(answer.headers), **{key: answer.headers.get(key) for key in HEADERS}}.items()
    policy = dict(part.split(" ", 1) for part in HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert not re.search(r"unsafe|\*|https?:|data:", HEADERS["Content-Security-Policy"])
    assert answers["app.js"].headers["content-type"].startswith("text/javascript")


def test_the_page_loads_nothing_from_elsewhere_and_makes_no_markup_of_texts():
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"(src|href)=\"(https?:)?//|<style|style=|\bon\w+=|<script(?![^>]*src=)", html)
    for path in PAGE.glob("*.js"):
        code = path.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", code), path
        assert set(re.findall(r"https?://[^\s\"'`]+", code)) <= {"http://www.w3.org/2000/svg"}, path
        assert not re.search(r"from \"(?!\./)", code), path


def test_files_are_asked_for_again_only_when_they_have_changed(shop):
    [first] = ask(shop.app(), "/catalog/app.js")
    again, start = ask(shop.app(), "/catalog/app.js", "/catalog", **{"if-none-match": first.headers["etag"]})
    [index] = ask(shop.app(), "/v1/catalog")
    [same] = ask(shop.app(), "/v1/catalog", **{"if-none-match": index.headers["etag"]})
    [plain] = ask(shop.app(), "/v1/catalog", **{"accept-encoding": "identity"})

    assert (again.status_code, again.content, start.status_code) == (304, b"", 200)
    assert (index.headers["content-encoding"], same.status_code) == ("gzip", 304)
    assert ("content-encoding" in plain.headers, plain.json()) == (False, index.json())


@pytest.mark.parametrize(
    "path", ["/catalog/nothing.js", "/catalog/..%2fsite.py", "/catalog/../site.py", "/catalog/%00"]
)
def test_there_are_no_other_files(shop, path):
    [answer] = ask(shop.app(), path)

    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/no-such-path")


def test_texts_of_declarations_are_told_as_they_are(shop):
    [habits] = [each for each in told(shop, "/v1/catalog")["views"] if each["name"] == "habits"]

    assert habits["description"] == habits["tags"]["note"] == habits["features"][0]["description"] == HOSTILE


@pytest.mark.parametrize(
    "value", ["javascript:alert(1)", "example.com", "https://", "https://a b", "http://a?b", "ftp://a"]
)
def test_an_address_of_a_page_is_one(value):
    with pytest.raises(SettingsError, match="must be an http:// or https:// address"):
        Settings(ui_url=value)
    with pytest.raises(SettingsError, match=r"`api_url` \(FEATURE_STORE_API_URL\)"):
        Settings(api_url=value)


def test_addresses_of_pages_follow_from_the_settings():
    assert (Settings().dagster_url, Settings().catalog_url) == (
        "http://127.0.0.1:3000",
        "http://127.0.0.1:8700/catalog",
    )
    assert Settings(api_host="::1", api_port=1).catalog_url == "http://[::1]:1/catalog"
    behind = Settings(ui_url="https://dagster.example/", api_url="https://example.com/features/")
    assert (behind.dagster_url, behind.catalog_url) == (
        "https://dagster.example",
        "https://example.com/features/catalog",
    )


@pytest.mark.skipif(NODE is None, reason=NO_NODE)
def test_the_search_finds_by_every_field_the_best_first(shop):
    answers = subprocess.run(
        [NODE, Path(__file__).parent / "catalog_search.mjs", *(PAGE / f"{name}.js" for name in ("search", "snippets", "rows"))],
        check=True, capture_output=True, text=True, input=json.dumps(told(shop, "/v1/catalog")),
    ).stdout  # fmt: skip
    found = json.loads(answers)

    assert found["spending"][0] == "view spending"
    assert found["spending:count_1h"][0] == "feature spending:count_1h"
    assert found["TEAM:TILL"] == ["source payments"]
    assert {"view spending", "feature spending:amount_mean"} <= set(found["gold"])
    assert "view profile" in found["pii:behaviour"]
    assert {"view habits", "entity customer"} <= set(found["customer"])
    assert found["payments amount spending"] == ["feature spending:amount_mean"]
    assert "feature spending:country_last" in found["where latest"]
    assert "feature times_the_usual" in found["usually fraud"]
    assert "feature habits:amount_max_7d" in found["<script>"]
    assert found["  "] == found["no such thing"] == []
    assert (found["python"], found["shell"]) == ('{"a": [1, None, True, "\\"\\\\x"]}', "'it'\\''s'")
    assert found["row"] == {"rival": 1}  # a view in a role: a value of the key's type
    assert found["href"] == "#/features/a%2Fb%3A%3Cc%3E"
