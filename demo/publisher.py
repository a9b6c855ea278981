"""The live day's publisher, a process of its own: publishes each event when it arrives, by the replay's clock.

It also does what the scheduler would do: the hourly rows of the batch view.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from operator import attrgetter

import redis

from demo.replay import DAY, Due, Publisher, start_of_hour
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from feature_store.time_rule import from_us
from features.flights import arrival_order

PAUSE_S = 0.005


def main(day: datetime) -> None:
    """Publish one day."""
    settings = Settings()
    with FeatureStore(settings=settings, clock=settings.clock) as store:
        publisher = Publisher(store, redis.Redis.from_url(settings.redis_url))
        events = [event for event in arrival_order(day, day + DAY) if event.source != "weather"]
        coming = Due(events, time=attrgetter("arrived_at"))
        hours = Due([day + timedelta(hours=hour) for hour in range(24)], time=lambda hour: hour)
        while coming or hours:
            now = from_us(store.clock.now_us())
            if hours.take(now):
                start_of_hour(store)
            publisher.publish(coming.take(now))
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(datetime.fromisoformat(sys.argv[1]))
