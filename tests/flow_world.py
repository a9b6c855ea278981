"""A deployment whose stream runs in processes of its own."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from prometheus_server import CLIENT
from stream_world import NOW_US, World

from feature_store.clock import ReplayClock
from feature_store.embedded import HOST
from feature_store.errors import LogTailLost
from feature_store.online.ready import read_ready

HERE = Path(__file__).parent
PATIENCE_S = 120


@dataclass
class Deployment(World):
    """A world whose stream runs in processes of its own, on a clock that begins at NOW_US."""

    speed: float = 1.0
    """0: the clock stands still, so that what is written does not depend on when."""
    declarations: str = "stream_world:registry"

    def __post_init__(self):
        self.replay = ReplayClock(origin_us=NOW_US, started_us=time.time_ns() // 1000, speed=self.speed)
        super().__post_init__()
        self.clock = self.replay

    @contextmanager
    def process(self, name, *options, workers=1, stdin=None):
        settings = {
            "HOME": self.home,
            "REDIS_URL": self.url,
            "ENVIRONMENT": self.env,
            "DECLARATIONS": self.declarations,
            "REPLAY": self.replay,
            "WORKERS": workers,
        }
        environment = os.environ | {f"FEATURE_STORE_{key}": str(value) for key, value in settings.items()}
        environment["PYTHONPATH"] = f"{HERE.parent}{os.pathsep}{HERE}{os.pathsep}{self.home}"
        command = [sys.executable, "-m", "feature_store_deploy.streams", name, *options]
        with (
            (self.home / f"{name}.log").open("ab") as log,
            subprocess.Popen(command, env=environment, stdin=stdin, stdout=log, stderr=log) as started,
        ):
            try:
                yield started
            finally:
                started.kill()

    def said(self, name):
        return (self.home / f"{name}.log").read_text()

    def wait_until_caught_up(self, process, *, workers=1):
        """Until the record of every worker's shard knows the end of the log."""

        def caught_up():
            records = read_ready(self.client, self.env)
            known = [records[str(n)].positions.get("readings", {}) for n in range(workers) if str(n) in records]
            return len(known) == workers and all(self.reached_the_end(positions) for positions in known)

        self.wait(caught_up, process)

    def reached_the_end(self, positions):
        """Also where the log has begun a new epoch since, and nothing was published in it.

        Not where the log has lost what the flow had reached and holds more since: the flow has yet to find that out.
        """
        try:
            lags = [self.log.lag(partition, position) for partition, position in positions.items()]
        except LogTailLost:
            return False
        return len(lags) == self.log.partitions and not any(lags)

    def wait(self, condition, process):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert process.poll() is None, self.said("flow")
            assert time.monotonic() < deadline, self.said("flow")
            time.sleep(0.02)

    def trickle(self, some, *, size=10, pause_s=0.01):
        for start in range(0, len(some), size):
            self.publish(some[start : start + size])
            time.sleep(pause_s)


def counted(port):
    """What a process says for Prometheus: (name, source, outcome) -> its value."""
    families = text_string_to_metric_families(CLIENT.get(f"http://{HOST}:{port}/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {(each.name, each.labels.get("source"), each.labels.get("outcome")): each.value for each in samples}
