"""Takes the screenshots of docs/dagster.md again: the payments example, its graph, a check that fails, a backfill at work. Look at them."""

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import chdir, contextmanager
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import dagster as dg  # noqa: E402
from dagster._core.remote_origin import InProcessCodeLocationOrigin  # noqa: E402
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin  # noqa: E402
from dagster._core.workspace.context import WorkspaceProcessContext  # noqa: E402
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget  # noqa: E402
from dagster._daemon.backfill import execute_backfill_jobs  # noqa: E402
from dagster._daemon.daemon import BackfillDaemon  # noqa: E402
from dagster._daemon.types import DaemonHeartbeat  # noqa: E402
from feature_store_deploy.assets.backfill import submit  # noqa: E402
from feature_store_deploy.assets.instance import dagster_instance  # noqa: E402
from feature_store_deploy.stack.dagster import begin_books  # noqa: E402

from benchmarks.browser import running_browser  # noqa: E402
from feature_store import Settings  # noqa: E402
from feature_store.embedded import EmbeddedValkey, free_port  # noqa: E402

FOLDER = ROOT / "docs" / "images"
EXAMPLE = ROOT / "examples" / "payments"
SETTLED_MS = 6000
DAYS, BACKFILLED, DAYS_PER_RUN, BROKEN = 12, 9, 3, 4
START_TAG = "dagster/asset_partition_range_start"
LAUNCHER = """
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
"""


def main():
    with tempfile.TemporaryDirectory() as home, EmbeddedValkey(Path(home) / "valkey", port=0) as valkey:
        os.environ |= {
            "FEATURE_STORE_HOME": home,
            "FEATURE_STORE_REDIS_URL": valkey.url,
            "FEATURE_STORE_DECLARATIONS": "payments:registry",
            "FEATURE_STORE_BACKFILL_DAYS": str(DAYS_PER_RUN),
            "PYTHONWARNINGS": "ignore",
        }
        with chdir(prepared(Path(home))):
            os.environ["DAGSTER_HOME"] = str(begin_books(Settings()))
            with (Path(os.environ["DAGSTER_HOME"]) / "dagster.yaml").open("a") as file:
                file.write(LAUNCHER)
            backfill_id = run_some()
            with webserver() as address, running_browser() as browser:
                take(browser, address, backfill_id)


def prepared(home):
    """A copy of the example with some days of events; one of them has a negative amount."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    folder = home / "payments"
    shutil.copytree(EXAMPLE, folder)
    spec = importlib.util.spec_from_file_location("generator", folder / "generator.py")
    generator = importlib.util.module_from_spec(spec)
    sys.modules["generator"] = generator
    spec.loader.exec_module(generator)
    generator.write_daily(generator.generate_daily(payments=6000, days=DAYS), folder / "data")
    broken = folder / "data" / "payments" / f"{generator.START.date() + timedelta(days=BROKEN)}.parquet"
    table = pq.read_table(broken)
    position = table.schema.get_field_index("amount")
    pq.write_table(table.set_column(position, "amount", pc.negate(table.column("amount"))), broken)
    return folder


@contextmanager
def location(instance):
    """The definitions, in this process."""
    target = LoadableTargetOrigin(python_file=str(Path("definitions.py").absolute()), working_directory=str(Path.cwd()))
    origin = InProcessCodeLocationOrigin(target, location_name="feature_store")
    with WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as context:
        yield context


def run_some():
    """Two runs of a backfill that takes three, and what a daemon would have noted; its id."""
    from generator import START

    keys = [["events", "payments"], ["events", "chargebacks"], ["tiles", "spending"], ["tiles", "devices"]]
    with dagster_instance(Settings()) as instance, location(instance) as context:
        first, last = START.date(), START.date() + timedelta(days=BACKFILLED - 1)
        assets = [dg.AssetKey(["dev", *path]) for path in keys]
        found = submit(context, first=first, last=last, assets=assets, title="the first days of payments")

        def ask():
            list(execute_backfill_jobs(context, logging.getLogger("pictures"), [instance.get_backfill(found)]))

        while len(instance.get_runs()) < BACKFILLED // DAYS_PER_RUN:
            ask()
        for run in sorted(instance.get_runs(), key=lambda run: run.tags[START_TAG])[:2]:
            instance.launch_run(run.run_id, context.create_request_context())
        ask()
        return found


def beat():
    """What a daemon that looks at backfills leaves behind, so that the UI does not miss it."""
    with dagster_instance(Settings()) as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), BackfillDaemon.daemon_type(), None, []))


@contextmanager
def webserver():
    """The web UI, once it has loaded the code; ended at the end."""
    port = free_port()
    program = Path(sys.executable).with_name("dagster-webserver")
    command = [str(program), "-h", "127.0.0.1", "-p", str(port), "-w", "workspace.yaml"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and not nodes(port):
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def nodes(port):
    query = json.dumps({"query": "{ assetNodes { id } }"}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", query, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]["assetNodes"]
    except OSError:
        return []


def take(browser, address, backfill_id):
    """The pictures."""
    page = browser.new_page(viewport={"width": 1400, "height": 800})

    def shot(name, where, *, until):
        page.goto(f"{address}{where}", wait_until="domcontentloaded")
        page.get_by_text(until).first.wait_for(timeout=120_000)
        page.wait_for_timeout(SETTLED_MS)
        page.screenshot(path=FOLDER / f"dagster-{name}.png")

    beat()
    shot("groups", "/asset-groups", until="merchant")
    shot("graph", "/assets/dev/online/spending?view=lineage&lineageScope=upstream&lineageDepth=5", until="payments")
    shot("check", "/assets/dev/events/payments?view=checks&checkDetail=schema", until="rows were refused")
    beat()
    shot("backfill", f"/runs/b/{backfill_id}", until="completed")


if __name__ == "__main__":
    main()
