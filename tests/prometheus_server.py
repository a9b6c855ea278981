"""Debian's Prometheus, asked to look every second."""

import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from feature_store.embedded import HOST, free_port

PROGRAM, TOOL = shutil.which("prometheus"), shutil.which("promtool")
NO_PROMETHEUS = "rules and dashboards were not evaluated: there is no `prometheus` and `promtool` on the PATH"
CLIENT = httpx.Client(verify=False)
"""Of servers of this machine; one for all questions, because to make one reads all certificates of the system."""
MONITORING = Path(__file__).parent.parent / "monitoring"


class Prometheus:
    """A running server."""

    def __init__(self, url):
        self.url = url

    def get(self, path, **parameters):
        answer = CLIENT.get(f"{self.url}/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression):
        """Labels and value of each series that an expression gives now."""
        found = self.get("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def rules(self):
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def firing(self):
        return {labels["alertname"] for labels, _ in self.query('ALERTS{alertstate="firing"}')}

    def wait(self, condition, *, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.get("targets", state="active")
            time.sleep(0.1)


@contextmanager
def running_prometheus(folder, targets):
    """Our configuration and rules, with targets (job -> address), intervals and pauses of a test."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "500ms"}
    del config["alerting"]
    for job in config["scrape_configs"]:
        job.pop("authorization", None)
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    rules = re.sub(r"for: \w+", "for: 0s", (MONITORING / "rules.yml").read_text())
    (folder / "rules.yml").write_text(rules)
    address = f"{HOST}:{free_port()}"
    command = [PROGRAM, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
               f"--web.listen-address={address}", "--log.level=warn"]  # fmt: skip
    with (folder / "prometheus.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            server = Prometheus(f"http://{address}")
            deadline = time.monotonic() + 60
            while not _is_ready(server.url):
                assert process.poll() is None, (folder / "prometheus.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield server
        finally:
            process.terminate()


def _is_ready(url):
    try:
        return CLIENT.get(f"{url}/-/ready").status_code == 200
    except httpx.TransportError:
        return False
