"""Two environments side by side on one Redis, one lake and one home: what is done in one changes nothing in the other.

Their names begin alike, so whatever takes a beginning for a name is found out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import redis
import shop
from feature_store_deploy.assets.instance import prepare_dagster_home
from feature_store_deploy.checks.parity import online_report
from feature_store_deploy.stack.definitions import build_definitions

from feature_store import FeatureStore, InputError, Settings
from feature_store.clock import ManualClock
from feature_store.embedded import EmbeddedValkey
from feature_store.fold.archive import CONSUMER, Archiver, CommitArchiver
from feature_store.fold.run import LocalStream
from feature_store.proof.served_log import ServedLog
from feature_store.proof.served_table import append_served
from feature_store.time_rule import to_us

FIRST, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 4, tzinfo=UTC)
NOW = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)
NAMES = ("dev", "dev_2")
ADA = {"customer": "ada"}


@dataclass
class World:
    """One environment: its own files of history and its own events, everything else is shared."""

    store: FeatureStore
    folder: Path
    amounts: list[float]
    """Of ada's payments: one on each day of history, one that is published."""
    opened: list[LocalStream] = field(default_factory=list)

    @property
    def env(self) -> str:
        return self.store.settings.environment

    def write_history(self) -> None:
        (self.folder / "refunds").mkdir(parents=True)
        days = [FIRST + timedelta(days=n, hours=12) for n in range(3)]
        paid = [
            f"p{n},ada,{amount},{at:%F %T}Z" for n, (amount, at) in enumerate(zip(self.amounts, days, strict=False))
        ]
        (self.folder / "payments.csv").write_text("\n".join(["payment_id,customer,amount,paid_at", *paid, ""]))
        refunded = f"refund_id,customer,refunded_at\nr1,ada,{days[0]:%F %T}Z\n"
        (self.folder / "refunds" / "all.csv").write_text(refunded)

    def load(self) -> None:
        for source in ("payments", "refunds"):
            self.store.load(source, start=FIRST, end=END)

    def materialize(self) -> None:
        for view in ("spending", "habits", "returns"):
            self.store.materialize(view, start=FIRST, end=END)

    def publish(self) -> None:
        event = {
            "payment_id": "p9",
            "customer": "ada",
            "amount": self.amounts[3],
            "paid_at": NOW - timedelta(minutes=5),
        }
        self.store.publish("payments", [event, event | {"paid_at": NOW + timedelta(days=9)}])

    def stream(self) -> None:
        store = self.store
        if not self.opened:
            self.opened.append(
                LocalStream(store.compiled, store.lake, store.redis, env=self.env, clock=store.clock, shards=2)
            )
        self.opened[0].step()

    def archive(self) -> None:
        store, log = self.store, self.store.log("payments")
        Archiver(store.compiled, store.lake, log, source="payments").step()
        CommitArchiver(store.lake, store.redis, self.env).step()
        log.acknowledge(CONSUMER, {0: log.end(0)})
        log.trim()

    def serve(self) -> None:
        log = ServedLog("risk@1")
        log.add(ADA, self.store.get_online_features("risk", ADA))
        append_served(self.store.compiled, self.store.lake, log.table())

    def train(self) -> list[object]:
        spine = pd.DataFrame({"customer": ["ada"], "event_timestamp": [FIRST + timedelta(days=2)]})
        [row] = self.store.get_historical_features(spine, "risk").to_arrow().to_pylist()
        return list(row.values())

    def check(self) -> None:
        for view in ("spending", "habits"):
            assert online_report(self.store, self.store.registry.view(view), [ADA]).unequal == 0

    def keep_small(self) -> None:
        """What upkeep does: it is about files and snapshots, which the environments share."""
        lake, far = self.store.lake, to_us(datetime(2100, 1, 1, tzinfo=UTC))
        lake.upkeep.compact("events_payments_live")
        with pytest.raises(InputError, match=r"the lake also holds the environments? '"):
            lake.upkeep.expire(older_than_us=far)
        lake.upkeep.expire(older_than_us=far, environments=NAMES, grace_us=0)

    def empty(self) -> None:
        """As docs/operating.md says that an environment is removed."""
        for key in keys_of(self.store.redis, self.env):
            self.store.redis.delete(key)
        with self.store.lake.cursor() as cursor:
            cursor.execute(f'DROP SCHEMA lake."{self.env}" CASCADE')
        self.store.close()

    def spending(self) -> list[object]:
        vector = self.store.get_online_features("risk", ADA)
        return [vector[name].value for name in vector.names]


ACTIONS = ["apply", "load", "materialize", "publish_view", "publish", "stream", "archive", "serve", "train"]
ACTIONS += ["status", "check", "keep_small"]


def act(world: World, action: str) -> None:
    """Do something in an environment, in its own working folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.folder)
        if action == "publish_view":
            world.store.publish_view("habits")
        elif hasattr(world, action):
            getattr(world, action)()
        else:
            getattr(world.store, action)()


def keys_of(client: redis.Redis, env: str) -> list[bytes]:
    """The keys whose second part, between colons or at the end, is the environment."""
    return [key for key in client.scan_iter() if key.split(b":")[1:2] == [env.encode()]]


def state(world: World, others: World) -> dict[object, object]:
    """All of Redis, of the lake and of the home that does not belong to another environment."""
    client = world.store.redis
    theirs = set(keys_of(client, others.env))
    found: dict[object, object] = {key: client.dump(key) for key in client.scan_iter() if key not in theirs}
    with world.store.lake.cursor() as cursor:
        for (table,) in cursor.execute("SHOW TABLES").fetchall():
            found[table] = cursor.execute(f'FROM "{table}" ORDER BY ALL').fetchall()
    home = world.store.settings.home
    kept = [path for path in home.rglob("*") if path.is_file() and world.env in path.relative_to(home).parts]
    return found | {path: path.stat().st_mtime_ns for path in kept if path.suffix in (".parquet", ".json", ".html")}


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[list[World]]:
    with EmbeddedValkey(tmp_path / "valkey") as server:
        made = []
        for name, amounts in zip(NAMES, ([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]), strict=True):
            settings = Settings(home=tmp_path / "home", redis_url=server.url, environment=name)
            store = FeatureStore(shop.registry, settings=settings, clock=ManualClock(to_us(NOW)))
            made.append(World(store, tmp_path / name, amounts))
            made[-1].write_history()
        yield made
        for world in made:
            world.store.close()


def test_whatever_is_done_in_one_environment_changes_nothing_in_the_other(worlds: list[World]) -> None:
    one, other = worlds
    for action in ACTIONS[:9]:
        act(other, action)
    other.store.lake.upkeep.compact("events_payments_live")
    before, served, trained = state(other, one), other.spending(), other.train()
    assert len(before) > 20

    for action in ACTIONS:
        act(one, action)
        assert state(other, one) == before, action

    assert (other.spending(), other.train()) == (served, trained)
    for world in worlds:
        yesterday, today = world.amounts[2:]
        assert world.spending() == [1, 2, (yesterday + today) / 2, yesterday]
    strays = set(one.store.redis.scan_iter()) - {key for w in worlds for key in keys_of(w.store.redis, w.env)}
    assert strays == set(), "a key without an environment"

    act(one, "empty")
    assert state(other, one) == before, "empty"
    act(one, "load")
    act(one, "apply")
    assert (other.spending(), other.train()) == (served, trained)
    assert state(other, one) == before


def test_what_dagster_knows_of_two_environments_has_no_name_in_common(tmp_path: Path) -> None:
    """A daemon starts whatever run it finds in its books, so each environment has books of its own."""
    settings = [Settings(home=tmp_path, environment=name) for name in NAMES]
    names = [dagster_names(each) for each in settings]

    assert len(names[0]) == len(names[1]) > 10
    assert names[0] & names[1] == set()
    books = [prepare_dagster_home(each) for each in settings]
    assert books == [tmp_path / "dagster" / name for name in NAMES]


def dagster_names(settings: Settings) -> set[str]:
    """Of assets, jobs, schedules and sensors."""
    repository = build_definitions(shop.registry, settings).get_repository_def()
    named = [*repository.get_all_jobs(), *repository.schedule_defs, *repository.sensor_defs]
    assets = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    return assets | {each.name for each in named if not each.name.startswith("__")}
