"""The side of Feast, run by the Python of its own environment: `feast_side.py HOME HOST:PORT ENTITIES`.

It writes the repository into HOME and the values into Redis, says `ready`, and reads as it is told on standard input:
`ENTITIES TIMES`, answered by a line with the durations in µs.
"""

import gc
import json
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

FEATURES = [f"f{number}" for number in range(10)]
CONFIG = """project: bench
provider: local
registry: {home}/registry.db
entity_key_serialization_version: 3
online_store: {{type: redis, connection_string: "{address}"}}
offline_store: {{type: file}}
"""


def prepared(home: Path, address: str, entities: int) -> FeatureStore:
    """A store whose online store holds ten features of every entity."""
    (home / "feature_store.yaml").write_text(CONFIG.format(home=home, address=address))
    now, draw = datetime.now(UTC), random.Random(1)
    rows = pd.DataFrame({"airport": [str(number) for number in range(entities)], "event_timestamp": now})
    for name in FEATURES:
        rows[name] = [draw.uniform(-5, 200) for _ in range(entities)]
    rows.to_parquet(home / "rows.parquet")
    airport = Entity(name="airport", join_keys=["airport"], value_type=ValueType.STRING)
    view = FeatureView(
        name="view0",
        entities=[airport],
        ttl=timedelta(days=2),
        schema=[Field(name=name, dtype=Float64) for name in FEATURES],
        source=FileSource(path=str(home / "rows.parquet"), timestamp_field="event_timestamp"),
    )
    store = FeatureStore(repo_path=str(home))
    store.apply([airport, view])
    store.write_to_online_store("view0", rows)
    return store


def main(home: str, address: str, entities: str) -> None:
    """Prepare, and read as told until standard input ends."""
    store = prepared(Path(home), address, int(entities))
    features, draw = [f"view0:{name}" for name in FEATURES], random.Random(7)
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        each, times = map(int, line.split())
        requests = [[{"airport": str(draw.randrange(int(entities)))} for _ in range(each)] for _ in range(times)]
        taken = []
        for request in requests:
            began = time.perf_counter()
            found = store.get_online_features(features=features, entity_rows=request).to_dict()
            taken.append((time.perf_counter() - began) * 1e6)
            assert None not in found["f0"], "a value is missing"
        print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
