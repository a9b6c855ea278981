"""An entity whose text is too long to be asked for: no door takes its events, and samples leave out what a lake has of it."""

import json
from datetime import date, timedelta

import duckdb
import pyarrow as pa
import pytest
from feature_store_deploy.assets.declared import source_version
from feature_store_deploy.assets.training import default_spine
from feature_store_deploy.checks import moments, parity, samples
from orders_world import DAYS, Shop, day, midnight, orders

from feature_store import Entity, FeatureService, FeatureView, InputError, Registry, agg
from feature_store.catalog.statistics import view_statistics
from feature_store.declare.key import LONGEST, entity_key
from feature_store.fold.intake import Intake
from feature_store.fold.known_ids import KnownIds
from feature_store.history.conform import conform
from feature_store.incoming import Incoming
from feature_store.log.protocol import LogRecord
from feature_store.long_keys import askable, askable_sql, keys_of, too_long, with_keys
from feature_store.notebook.entities import entities
from feature_store.schema import arrow_schema
from feature_store.time_rule import to_us
from feature_store.transforms.compiled import compile_registry

LAST, LONG = DAYS - 1, "s" * 900_000
TYPES = {"str": pa.string(), "bytes": pa.binary(), "int": pa.int64(), "bool": pa.bool_(), "date": pa.date32()}
ROWS = [
    (["str"], [("a" * LONGEST,), ("a" * (LONGEST + 1),), (None,), ("",), ("é" * 2_048,), ("é" * 2_048 + "a",)]),
    (["str"], [("%" * 1_365,), ("%" * 1_366,), ("{|}" * 455 + "a",), ("{|}" * 455 + "ab",), (LONG,)]),
    (["bytes"], [(b"\x00" * 2_048,), (b"\\" * 2_049,), (None,)]),
    (["str", "int"], [("a" * 4_075, -(2**63)), ("a" * 4_076, -(2**63)), (None, 1), ("a" * 5_000, None), ("a", 7)]),
    (["str", "bytes", "bool"], [("é" * 1_000, b"\x00" * n, False) for n in (1_044, 1_045, 1_046)]),
    (["date", "str"], [(date(2024, 3, 1), "a" * n) for n in (4_085, 4_086)]),
    (["int", "bool"], [(2**63 - 1, True)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kinds", "rows"), ROWS, ids=lambda value: "+".join(value) if isinstance(value[0], str) else ""
)
def test_the_rule_for_rows_is_the_one_for_requests(kinds, rows):
    names = [f"k{n}" for n in range(len(kinds))]
    fields = [pa.field(name, TYPES[kind]) for name, kind in zip(names, kinds, strict=True)]
    table = pa.table([pa.array(each) for each in map(list, zip(*rows, strict=True))], schema=pa.schema(fields))
    refused = {}
    for number, row in enumerate(rows):
        try:
            entity_key(row, kinds, columns=names)
        except InputError as error:
            refused[number] = str(error).partition("` ")[2]

    found = too_long(table, [tuple(names)])
    sql = f"SELECT {askable_sql(table.schema, [names])} AS fits FROM rows"
    fits = [each for (each,) in duckdb.connect().register("rows", table).execute(sql).fetchall()]

    assert {number: reason.partition("': ")[2] for number, reason in found.items()} == refused
    assert [number for number, each in enumerate(fits) if not each] == list(refused)
    assert askable(table, [tuple(names)]).num_rows == len(rows) - len(refused)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return Shop(tmp_path_factory.mktemp("shop"))


def payload(row):
    return json.dumps(row, default=lambda time: time.isoformat()).encode()


def test_no_door_takes_the_event_of_a_key_that_is_too_long(shop):
    compiled = compile_registry(shop.registry)
    source, schema = shop.registry.source("orders"), compiled.schemas["orders"]
    good, bad, odd = orders(LAST)[:3]
    bad, odd = bad | {"shop": LONG}, odd | {"order_id": "o" * 5_000, "kind": "k" * 5_000}
    rows, now_us = [good, bad, odd], to_us(midnight(DAYS))
    reason = "column 'shop': must be at most 4,096 bytes as text, got 900,000"

    records = [LogRecord(n, now_us, payload(row)) for n, row in enumerate(rows)]
    streamed = Intake(source, schema, known=KnownIds()).accept(0, records, start=0)
    loaded = conform(source, pa.Table.from_pylist(rows, schema=arrow_schema(source)), schema=schema, arrival=None)
    incoming = Incoming(source=source, schema=schema, unit="event")
    published = incoming.check(dict(enumerate(map(payload, rows))), now_us=now_us)

    assert [(each.offset, each.kind, each.reason) for each in streamed.rejected] == [(1, "rejected", reason)]
    assert loaded.rejected.column("reason").to_pylist() == [reason]
    assert incoming.problems == {1: reason}
    kept = [good["order_id"], odd["order_id"]]
    assert [streamed.events["order_id"].to_pylist(), loaded.events["order_id"].to_pylist()] == [kept, kept]
    assert [row["order_id"] for row in published] == kept


def test_keys_are_the_join_keys_of_a_sources_views_in_every_role_and_no_part_of_its_version(shop):
    view, plain = shop.registry.view("spending"), arrow_schema(shop.registry.source("orders"))
    by_kind = FeatureView(
        "by_kind", entity=Entity("kind", join_keys=["kind"]), source=view.source, features=[agg.count(over="1d")]
    )
    roles = [view, view.keyed(prefix="by_id_", shop="order_id"), view.keyed(prefix="other_", shop="other_shop")]
    everything = FeatureView("all", entity=None, source=view.source, features=[agg.count(over="1d")])
    registry = Registry(views=[view, by_kind, everything], services=[FeatureService("roles", features=roles)])

    schema = compile_registry(registry).schemas["orders"]

    assert keys_of(schema) == (("shop",), ("kind",), ("order_id",))
    assert keys_of(plain) == ()
    assert with_keys(schema, ()).equals(plain, check_metadata=True)
    assert source_version(view.source, schema) == source_version(view.source, plain)


def test_what_a_lake_took_before_is_left_out_of_samples(tmp_path):
    """Among the newest day's orders is one of a shop that cannot be asked for; an older version of the library took it."""
    shop = Shop(tmp_path)
    rows = [
        *orders(LAST),
        orders(LAST)[-1] | {"shop": LONG, "order_id": "long", "ordered": midnight(DAYS) - timedelta(seconds=1)},
    ]
    with shop.store() as store:
        view, source = store.registry.view("spending"), store.registry.source("orders")
        plain = arrow_schema(source)
        taken = conform(source, pa.Table.from_pylist(rows, schema=plain), schema=plain, arrival=None)
        store.lake.ensure_source("orders", plain)
        store.lake.replace_loaded("orders", taken.events, days=[day(LAST)])
        service = store.registry.service("pricing")

        counted = view_statistics(store.compiled, store.lake, view)
        compared = parity.newest_entities(store, view)
        drawn = [
            samples.moments(store, source, ["shop", *more], [day(LAST)], anew=True, keys=[("shop",)])
            for more in ([], ["order_id"])
        ]
        of_view = moments.sample_view(store, view, [day(LAST)], anew=True)
        of_service = moments.sample_service(store, service, source, [day(LAST)], anew=True, knowledge="corrected")
        trained = store.get_historical_features(default_spine(service, store), service, allow_incomplete=True)
        listed = entities(store.compiled, store.lake, view)

    assert len(rows) == 151
    assert [counted.rows, len(of_view), len(of_service), len(trained)] == [150, 150, 150, 150]
    assert [each.num_rows for each in drawn] == [150, 150]
    assert [len(compared), listed.num_rows] == [10, 10]
