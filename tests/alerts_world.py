"""A code location in this process, over the deployment that a test puts there."""

from concurrent.futures import ThreadPoolExecutor

import dagster as dg
from dagster._core.launcher.sync_in_memory_run_launcher import SyncInMemoryRunLauncher

DEPLOYMENT = None


class InThread(SyncInMemoryRunLauncher):
    """Executes what is launched at once, in this process; a backfill launches from within an event loop, and runs bring their own."""

    def launch_run(self, context):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(super().launch_run, context).result()


@dg.definitions
def definitions():
    """What Dagster loads."""
    return DEPLOYMENT.definitions
