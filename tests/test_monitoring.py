"""Rules, dashboards and the page on metrics are about what the endpoints really export; a real Prometheus evaluates them."""

import json
import re
import subprocess
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import dagster as dg
import pytest
import yaml
from api_server import running
from feature_store_deploy.stack import healthy
from feature_store_deploy.stack.definitions import build_definitions
from feature_store_deploy.stack.exporter.alerts import alert_families
from feature_store_deploy.stack.exporter.books import Books
from feature_store_deploy.stack.exporter.cached import Cached
from feature_store_deploy.stack.exporter.declared import declared_families
from feature_store_deploy.stack.exporter.stream import Stream
from feature_store_deploy.streams.metrics import StreamMetrics
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from prometheus_server import CLIENT, MONITORING, NO_PROMETHEUS, PROGRAM, TOOL, running_prometheus
from stream_world import SOURCE, World, compiled, registry

from feature_store.changing.apply import apply
from feature_store.embedded import HOST, free_port
from feature_store.registry import load_registry
from feature_store.settings import Settings

ROOT = Path(__file__).parent.parent
RULES = [rule for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in MONITORING.glob("grafana/dashboards/*.json")}
PANELS = [(name, panel) for name, board in DASHBOARDS.items() for panel in board["panels"]]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [target["expr"] for _, panel in PANELS for target in panel["targets"]]
PROCESSES = {"StreamDown", "ArchiverDown", "ApiDown", "ExporterDown", "ExporterIsBlind"}
SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}
needs_prometheus = pytest.mark.skipif(None in (PROGRAM, TOOL), reason=NO_PROMETHEUS)


@dataclass
class Endpoints:
    """The processes of a deployment, as Prometheus sees them."""

    targets: dict[str, str]
    """Job -> host and port."""
    api: str
    stop_flow: object

    def text(self, job):
        return CLIENT.get(f"http://{self.targets[job]}/metrics").text

    def families(self):
        """Without those that say since when another one counts."""
        found = [family for job in self.targets for family in text_string_to_metric_families(self.text(job))]
        return [family for family in found if not family.name.endswith("_created")]

    def names(self):
        return {f"{family.name}{suffix}" for family in self.families() for suffix in SUFFIXES[family.type]} | {"up"}


@pytest.fixture(scope="module")
def endpoints(valkey, tmp_path_factory, module_environment):
    """All four on ports of this process; `test_exporter` runs the exporter in its own, `test_streams_handover` the flow."""
    world = World(valkey.url, tmp_path_factory.mktemp("monitored"), module_environment)
    apply(compiled, world.lake, world.client, env=world.env, clock=world.clock)
    world.stream().step()
    counts = {job: CollectorRegistry() for job in ("exporter", "flow", "archive")}
    StreamMetrics("stream", registry, [SOURCE], to=counts["flow"])
    StreamMetrics("archive", registry, [SOURCE], to=counts["archive"])
    targets, servers = {job: f"{HOST}:{free_port()}" for job in counts}, {}
    definitions = build_definitions(registry, Settings(home=world.home, environment=world.env))
    with dg.DagsterInstance.ephemeral() as instance, running(world) as api:
        books = Books(definitions, instance)
        stream = Stream(registry, world.client, env=world.env, clock=world.clock)
        declared = partial(declared_families, registry, env=world.env)
        alerts = partial(alert_families, instance, env=world.env, posted=True)
        parts = {"declared": declared, "dagster": books.families, "alerts": alerts, "stream": stream.families}
        counts["exporter"].register(Cached(parts, every_s=0))
        for job, address in targets.items():
            servers[job], _ = start_http_server(int(address.partition(":")[2]), HOST, counts[job])
        targets["api"] = api.url.removeprefix("http://")
        read = {"features": ["sites:count_1h"], "rows": [{"site": "north"}]}
        assert CLIENT.post(f"{api.url}/v1/features", json=read).status_code == 200
        yield Endpoints(targets, api.url, lambda: stop(servers.pop("flow")))
        for server in servers.values():
            stop(server)
    world.close()


def stop(server):
    server.shutdown()
    server.server_close()


def test_what_answers_is_found_to_be_well(endpoints):
    ports = {job: int(address.rpartition(":")[2]) for job, address in endpoints.targets.items()}
    asked = Settings(api_port=ports["api"], metrics_port=ports["exporter"], archive_metrics_port=ports["archive"])

    assert [healthy.api(asked), healthy.exporter(asked), healthy.archive(asked)] == [None] * 3
    asked = Settings(
        api_port=ports["api"], metrics_port=ports["archive"], ui_port=ports["archive"], metrics_host="0.0.0.0"
    )
    assert "says nothing of 'exporter_part_up{'" in healthy.exporter(asked)  # somebody else answers
    assert "says nothing of 'dagster_version'" in healthy.webserver(asked)


def named_in(expression):
    """The metrics that an expression of PromQL names.

    >>> sorted(named_in('sum by (le) (rate(a_b[5m])) > on (x) c:d{e="f g"} or vector(0)'))
    ['a_b', 'c:d']
    """
    for what in (
        r'"[^"]*"',
        r"\{[^}]*\}",
        r"\[[^\]]*\]",
        r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)",
    ):
        expression = re.sub(what, " ", expression)
    words = re.findall(r"(?<![\w:.])([a-zA-Z_:][\w:]*)\b(?!\s*\()", expression)
    return (
        set(words)
        - {"or", "and", "unless", "offset", "by", "on", "bool", "group_left"}
        - {word for word in words if re.fullmatch(r"\d+[smhd]", word)}
    )


def test_names_in_expressions_are_found():
    assert named_in('sum by (le) (rate(a_b[5m])) > on (x) c:d{e="f g"} or vector(0)') == {"a_b", "c:d"}
    assert named_in("a - a offset 15m > 0") == {"a"}


def test_every_name_in_a_rule_or_panel_is_exported_or_recorded(endpoints):
    known = endpoints.names() | {rule["record"] for rule in RULES if "record" in rule}

    assert {name: expression for expression in EXPRESSIONS for name in named_in(expression) - known} == {}


def test_the_promised_names_are_exported(endpoints):
    promised = {
        "feature_freshness_seconds", "feature_missing_rate", "feature_default_value_rate", "feature_distribution_drift",
        "online_store_latency_seconds", "online_store_error_rate", "training_serving_skew_score",
    }  # fmt: skip
    families = {family.name: family.type for family in endpoints.families()}

    assert promised <= families.keys()
    assert families["online_store_latency_seconds"] == "histogram"


def test_the_page_lists_every_metric_with_its_labels_and_no_other(endpoints):
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    listed = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    exported = {each.name + ("_total" if each.type == "counter" else ""): each for each in endpoints.families()}
    labels = {
        name: {label for sample in family.samples for label in sample.labels} - {"le"}
        for name, family in exported.items()
        if family.samples
    }

    assert {name: kind for name, (kind, _) in listed.items()} == {name: each.type for name, each in exported.items()}
    assert labels == {name: listed[name][1] for name in labels}


def test_series_do_not_grow_however_somebody_asks(endpoints):
    def ask(name):
        body = {"keys": {"site": name}}
        calls = [("POST", f"/v1/services/{name}/features", body), ("POST", f"/v1/services/{name}/versions/3/features", body),
                 ("POST", "/v1/features", {"features": [f"{name}:{name}"], "rows": [{"site": name}]}),
                 ("POST", "/v1/features", {"features": ["sites:count_1h"], "rows": [{"site": name, name: name}]}),
                 ("POST", f"/v1/sources/{name}/events", [{"uid": name}]), ("GET", f"/{name}", None), ("PUT", f"/{name}", None),
                 ("GET", f"/v1/catalog/{name}/{name}", None), ("GET", f"/problems/{name}", None), ("GET", f"/catalog/{name}", None)]  # fmt: skip
        for method, path, given in calls:
            CLIENT.request(method, endpoints.api + path, json=given)

    def series():
        families = text_string_to_metric_families(endpoints.text("api"))
        return {(sample.name, *sorted(sample.labels.items())) for family in families for sample in family.samples}

    ask("first")
    before = series()
    for number in range(5):
        ask(f"name{number}")

    assert series() == before


@needs_prometheus
def test_rules_are_valid_and_each_alert_fires_for_what_it_is_about():
    for command in (
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules_test.yml"),
        ("check", "config", "--syntax-only", "prometheus.yml"),
    ):
        done = subprocess.run([TOOL, *command], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test_in_which_it_fires():
    tests = yaml.safe_load((MONITORING / "rules_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]}

    assert fired == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_whose_and_what_to_do(name):
    told = ALERTS[name]["annotations"]

    assert set(told) == {"summary", "owner", "runbook"}
    assert ALERTS[name]["labels"]["severity"] in ("critical", "warning")
    pages = [told["runbook"]]
    if "{{ $labels.check }}" in told["runbook"]:
        pages = [told["runbook"].replace("{{ $labels.check }}", check) for check in checks()]
    assert [page for page in pages if not (ROOT / page).exists()] == []


@cache
def checks():
    """The names of all checks of a deployment."""

    graph = build_definitions(load_registry("features:registry"), Settings()).resolve_asset_graph()
    return sorted({key.name for key in graph.asset_check_keys})


@pytest.mark.parametrize(("board", "panel"), PANELS, ids=[f"{name}: {panel['title']}" for name, panel in PANELS])
def test_a_panel_is_one_that_grafana_shows(board, panel):
    others = [each for each in DASHBOARDS[board]["panels"] if each is not panel]
    place = panel["gridPos"]

    assert panel["type"] in ("timeseries", "table")
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [target["refId"] for target in panel["targets"]] == ["A", "B", "C"][: len(panel["targets"])]
    assert all(target["expr"] for target in panel["targets"])
    assert place["x"] + place["w"] <= 24
    assert panel["id"] not in [each["id"] for each in others]
    assert not [each for each in others if _overlap(place, each["gridPos"])]


def _overlap(one, other):
    return (
        one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]
    )  # fmt: skip


def test_dashboards_can_be_told_apart_and_choose_their_prometheus():
    assert len({board["uid"] for board in DASHBOARDS.values()}) == len(DASHBOARDS) == 3
    for board in DASHBOARDS.values():
        assert board["title"]
        assert board["schemaVersion"] >= 36
        assert [each["name"] for each in board["templating"]["list"]] == ["datasource"]


@needs_prometheus
def test_a_real_prometheus_scrapes_evaluates_and_says_when_the_flow_is_gone(endpoints, tmp_path):
    with running_prometheus(tmp_path, endpoints.targets) as prometheus:
        prometheus.wait(lambda: len(prometheus.query("up == 1")) == 4)
        prometheus.wait(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()))
        prometheus.wait(lambda: {"DagsterDaemonDown", "AlertSensorSilent"} <= prometheus.firing())  # neither ever ran
        prometheus.wait(lambda: not prometheus.firing() & PROCESSES)  # a busy machine may have missed a scrape before
        answered = [prometheus.query(expression) for expression in EXPRESSIONS]
        freshness = prometheus.query("feature:freshness_seconds:max")
        owners = prometheus.query("feature_view_info")
        endpoints.stop_flow()
        prometheus.wait(lambda: "StreamDown" in prometheus.firing())

    assert len(answered) == len(EXPRESSIONS)  # each was understood
    assert {labels["view"] for labels, _ in freshness} == {"sites@1", "kinds@1"}
    assert {labels["view"] for labels, _ in owners} == {"sites@1", "kinds@1"}
