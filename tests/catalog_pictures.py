"""Takes the screenshots of docs/catalog.md again: the flights' declarations, with ten days of their history. Look at them."""

import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from catalog_world import served  # noqa: E402
from online_world import write_shards  # noqa: E402

from benchmarks.browser import running_browser  # noqa: E402
from feature_store import FeatureStore, ManualClock, Registry, Settings  # noqa: E402
from feature_store.catalog import book  # noqa: E402
from feature_store.embedded import EmbeddedValkey  # noqa: E402
from feature_store.online.ready import ReadyRecord, store_generation, write_ready  # noqa: E402
from feature_store.serving.app import build_app  # noqa: E402
from feature_store.time_rule import HOUR_US, SECOND_US, to_us  # noqa: E402
from features import registry  # noqa: E402

FOLDER = ROOT / "docs" / "images"
NOON = datetime(2013, 11, 30, 12, tzinfo=UTC)
MEAN = "#/features/airport_departures:dep_delay_mean_1h"


def main():
    book.whoever = lambda: "ada@laptop"
    with tempfile.TemporaryDirectory() as home, EmbeddedValkey(Path(home) / "valkey", port=0) as valkey:
        settings = Settings(home=Path(home), redis_url=valkey.url)
        clock = ManualClock(to_us(NOON - timedelta(days=10)))
        with FeatureStore(earlier(), settings=settings, clock=clock) as store:
            store.apply()
        clock.at_us = to_us(NOON)
        with FeatureStore(registry, settings=settings, clock=clock) as store:
            store.apply()
            for source in registry.sources:
                store.load(source, start=NOON - timedelta(days=10, hours=12), end=NOON - timedelta(hours=12))
            store.publish_statistics()
            vouch(store.redis, settings.environment, clock.at_us)
        app = build_app(valkey.url, env=settings.environment, clock=clock, dagster_url=settings.dagster_url)
        with served(app) as url, running_browser() as browser:
            take(browser, f"{url}/catalog")


def earlier():
    """The declarations as they might have been before."""
    changed = registry.view("airport_departures")
    features = [each for each in changed.declared if each.name != "late_share_3h"]
    changed = replace(changed, features=features, freshness_sla="5m", description="How late an airport is now")
    return Registry(views=[changed, *(view for view in registry.views if view.name != changed.name)])


def vouch(client, env, now_us):
    """As a stream that keeps up and a publisher of batch rows would."""
    generation = store_generation(client, env)
    write_shards(client, env, 1)
    stream = {view.id: 0 for view in registry.views if view.online == "stream"}
    records = [ReadyRecord(field="0", generation=generation, views=stream, beat_us=now_us - SECOND_US // 2)]
    for view in filter(lambda view: view.is_batch, registry.views):
        rows_us = now_us - min(view.every_us, 12 * HOUR_US)
        records.append(ReadyRecord(field=view.id, generation=generation, views={view.id: 0}, beat_us=rows_us))
    for record in records:
        write_ready(client, env, record)


def take(browser, address):
    def shot(name, where, width, height, *, scale=1, typed="", part=""):
        page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
        page.goto(address + where)
        page.wait_for_selector(".badge.good")
        if typed:
            page.keyboard.press("/")
            page.keyboard.type(typed)
            page.keyboard.press("ArrowDown")
        if part:
            page.get_by_role("heading", name=part).evaluate("each => each.scrollIntoView()")
            page.evaluate("scrollBy(0, -document.querySelector('.top').offsetHeight - 16)")
        page.screenshot(path=FOLDER / f"catalog-{name}.png")
        page.close()

    shot("start", "#/", 1100, 820)
    shot("search", "#/", 1100, 620, typed="late network")
    shot("feature", MEAN, 1100, 880)
    shot("versions", "#/views/airport_departures", 1100, 420, part="Versions")
    shot("phone", MEAN, 390, 780, scale=1.5, part="Lineage")


if __name__ == "__main__":
    main()
