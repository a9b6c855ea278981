"""`python dask_batch.py <home>`: the work of `test_executors` on a Dask cluster, of which a worker is killed halfway.

Prints digests of what it made. A process of its own, because Dask stands beside the environment of the tests.
"""

import json
import os
import signal
import sys
from pathlib import Path

from distributed import Client, LocalCluster
from test_executors import END, START, digest_of, registry, rows_built, training_set

from feature_store import FeatureStore, ManualClock, Settings
from feature_store.time_rule import to_us


def main(home: Path) -> None:
    settings = Settings(home=home).model_copy(update={"training_bucket_events": 700})
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with (
        LocalCluster(**options, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as dask,
        FeatureStore(registry, settings=settings, clock=ManualClock(to_us(END))) as store,
    ):
        executor = dask.get_executor()
        made = [digest_of(training_set(store, "served", executor).table)]
        store.materialize("hourly", start=START, end=END, executor=executor)
        rows = digest_of(rows_built(store))
        os.kill(next(iter(dask.run(os.getpid).values())), signal.SIGKILL)
        made.append(digest_of(training_set(store, "served", dask.get_executor()).table))
    print(json.dumps({"training_sets": made, "rows": rows}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
