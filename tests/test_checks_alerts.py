"""A failed check and its recovery reach a webhook, once each; what could not be delivered is delivered later."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
import pytest
from dagster_world import Deployment, day, quiet, ride
from feature_store_deploy.checks.alerts import Cursor, transition

from feature_store.settings import Settings

SENSOR = "dev__check_alerts"


class Webhook:
    """A local HTTP server that keeps what is posted, and refuses while `status` says so."""

    def __init__(self):
        self.received, self.status = [], 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hook.status == 200:
                    hook.received.append(json.loads(body))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def webhook():
    hook = Webhook()
    yield hook
    hook.close()


@pytest.fixture
def deployment(tmp_path, webhook):
    settings = Settings(home=tmp_path, redis_url="redis://127.0.0.1:1/0", alert_webhook_url=webhook.url)
    return Deployment(tmp_path, settings=settings, rows=[ride(n, at=n * 0.25) for n in range(8)])


class Sensor:
    """The sensor as the daemon drives it: tick after tick with the cursor of the last."""

    def __init__(self, deployment):
        self._repository = deployment.definitions.get_repository_def()
        self._sensor = self._repository.get_sensor_def(SENSOR)
        self._instance, self.cursor = deployment.instance, None

    def tick(self):
        with quiet(), dg.build_sensor_context(
            instance=self._instance, cursor=self.cursor, repository_def=self._repository
        ) as context:  # fmt: skip
            data = self._sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return data.skip_message


def load(deployment, *, bad):
    """Load the first two days, with a row that is refused on the second or without."""
    deployment.rows = [row for row in deployment.rows if row["fare"] >= 0]
    if bad:
        deployment.rows.append(ride(99, at=1.5, fare=-1.0))
    return deployment.run("events/rides", first=day(0), last=day(1))


def test_a_failed_check_and_its_recovery_reach_the_webhook_once_each(deployment, webhook):
    sensor = Sensor(deployment)
    for bad in (False, True, True, False, False):
        load(deployment, bad=bad)
        sensor.tick()
        sensor.tick()

    assert [message["state"] for message in webhook.received] == ["failed", "recovered"]
    failed, recovered = webhook.received
    assert failed["check"] == recovered["check"] == "schema"
    assert failed["asset"] == "dev/events/rides"
    assert failed["partition"] == "2024-03-01/2024-03-02"
    assert failed["severity"] == "ERROR"
    assert failed["owner"] == "team:taxis"
    assert failed["description"] == "1 rows were refused"
    assert failed["link"] == "http://127.0.0.1:3000/assets/dev/events/rides?view=checks&checkDetail=schema"
    assert failed["text"].startswith("FAILED: schema of dev/events/rides (2024-03-01/2024-03-02): 1 rows were refused")
    assert recovered["text"].startswith("RECOVERED: schema of dev/events/rides")


def test_what_could_not_be_delivered_is_delivered_later_and_in_order(deployment, webhook):
    sensor = Sensor(deployment)
    webhook.status = 503
    load(deployment, bad=True)
    assert "not delivered" in sensor.tick()
    load(deployment, bad=False)
    assert "not delivered" in sensor.tick()

    webhook.status = 200
    assert sensor.tick() == "2 alerts"

    assert [message["state"] for message in webhook.received] == ["failed", "recovered"]


def test_several_changes_between_two_looks_are_all_told(deployment, webhook):
    sensor = Sensor(deployment)
    for bad in (True, False, True):
        load(deployment, bad=bad)

    assert sensor.tick() == "3 alerts"
    assert [message["state"] for message in webhook.received] == ["failed", "recovered", "failed"]


def evaluation(passed, days=""):
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(["dev", "events", "rides"]),
        check_name="schema",
        passed=passed,
        metadata={"days": dg.MetadataValue.text(days)} if days else {},
    )


@pytest.mark.parametrize(
    ("story", "told"),
    [
        ([(True, "")], [None]),
        ([(False, ""), (False, ""), (True, ""), (True, "")], ["failed", None, "recovered", None]),
        ([(False, "2024-03-02"), (True, "2024-03-03")], ["failed", None]),  # another day is no recovery
        ([(False, "2024-03-02"), (True, "2024-03-01/2024-03-31")], ["failed", "recovered"]),
        ([(False, "2024-03-01/2024-03-31"), (True, "2024-03-02")], ["failed", None]),  # a part is none either
        (
            [(False, "2024-03-02"), (False, "2024-03-05"), (True, "2024-03-02"), (True, "2024-03-05")],
            ["failed", "failed", None, "recovered"],
        ),
    ],
)
def test_a_check_recovers_when_it_passes_for_all_days_that_had_failed(story, told):
    failing, said = {}, []
    for passed, days in story:
        change, failing = transition(evaluation(passed, days), failing)
        said.append(change)

    assert said == told


def test_the_cursor_survives_the_daemon():
    cursor = Cursor(read=7, failing={"a:b": {"2024-03-02": "ERROR"}})

    assert Cursor.parse(str(cursor)) == cursor
    assert Cursor.parse(None) == Cursor()
