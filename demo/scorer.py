"""The live day's model service, a process of its own: at each flight's request time it reads the vector and scores it."""

from __future__ import annotations

import pickle
import sys
import time
from datetime import datetime
from operator import itemgetter
from pathlib import Path

from demo.replay import DAY, Due, Scorer
from feature_store.proof.served_log import ServedLog
from feature_store.reader import FeatureReader
from feature_store.settings import Settings
from feature_store.time_rule import from_us
from features.flights import REQUEST_TIME, requests

PAUSE_S = 0.002


def main(day: datetime, home: Path) -> None:
    """Score one day; leaves what was served and what was predicted in `home`."""
    settings = Settings()
    # The model was pickled by the demo that started this process.
    model = pickle.loads((home / "model.pickle").read_bytes())  # noqa: S301
    scorer = Scorer(
        FeatureReader(settings.redis_url, env=settings.environment, clock=settings.clock), model, ServedLog()
    )
    due = Due(requests(day, day + DAY).to_pylist(), time=itemgetter(REQUEST_TIME))
    while due:
        asked = due.take(from_us(settings.clock.now_us()))
        if asked:
            scorer.score(asked, scorer.read(asked))
        time.sleep(PAUSE_S)
    scorer.log.write(home / "live.parquet")
    scorer.results().to_parquet(home / "live_scores.parquet")


if __name__ == "__main__":
    main(datetime.fromisoformat(sys.argv[1]), Path(sys.argv[2]))
