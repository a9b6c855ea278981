"""Loaded and live events of a source."""

from datetime import date

import duckdb
import pyarrow as pa
import pytest
from lake_rows import SCHEMA, day, events, live, local_only, open_lake, rejected

from feature_store.clock import ManualClock
from feature_store.errors import InputError, LakeError, PositionConflict, UnknownNameError
from feature_store.lake import Lake


@pytest.fixture
def lake(place):
    """What holds of every lake, on one of each kind."""
    with open_lake(place, clock=ManualClock(7)) as lake:
        yield lake


def query(lake: Lake, text: str) -> list[tuple]:
    cursor = lake.cursor()
    try:
        return cursor.execute(text).fetchall()
    finally:
        cursor.close()


def ids(lake: Lake, **options) -> set[str]:
    return {row[0] for row in query(lake, f"SELECT _event_id FROM ({lake.events_sql('departures', **options)})")}


def test_loaded_events_are_read_back_with_their_system_columns(lake):
    commit = lake.replace_loaded("departures", events(48), days=[day(0), day(1)])

    rows = query(lake, f"SELECT * FROM ({lake.events_sql('departures')}) ORDER BY _event_us")
    assert (commit.rows, commit.days, commit.snapshot) == (48, (day(0), day(1)), lake.snapshot())
    assert rows[25][0:2] == ("JFK", 25.0)
    assert rows[25][3:] == ("e25", rows[25][4], None, None, None, False, day(1))


def test_replacing_days_leaves_other_days_and_live_events_alone(lake):
    lake.replace_loaded("departures", events(72), days=[day(0), day(1), day(2)])
    lake.append_live("departures", live(1, start_hour=30, prefix="x"), owner="a", start={0: 0}, end={0: 1})

    lake.replace_loaded("departures", events(2, start_hour=24), days=[day(1)])

    kept = {f"e{hour}" for hour in (*range(26), *range(48, 72))}
    assert ids(lake) == kept | {"x30"}


@local_only
def test_a_day_without_events_is_loaded_and_empty(lake):
    lake.replace_loaded("departures", events(24), days=[day(0)])

    commit = lake.replace_loaded("departures", events(0), days=[day(0), day(3)])

    assert (commit.rows, ids(lake), lake.days("departures").loaded) == (0, set(), [day(0), day(3)])


@local_only
def test_loading_again_gives_the_same_rows(lake):
    for _ in range(3):
        lake.replace_loaded("departures", events(24), days=[day(0)])

    assert query(lake, f"SELECT count(*) FROM ({lake.events_sql('departures')})") == [(24,)]


@local_only
def test_events_may_come_as_sql_or_as_a_stream_of_batches(lake):
    cursor = lake.cursor()
    cursor.register("mine", events(24))
    lake.replace_loaded("departures", "SELECT * FROM mine", days=[day(0)], cursor=cursor)
    batches = pa.RecordBatchReader.from_batches(events(1).schema, events(24, start_hour=24).to_batches())
    lake.replace_loaded("departures", batches, days=[day(1)])

    assert len(ids(lake)) == 48


@local_only
def test_rows_outside_the_replaced_days_are_refused_and_nothing_is_written(lake):
    before = lake.snapshot()

    with pytest.raises(LakeError, match="days that are not being written: 2024-01-02; nothing was written"):
        lake.replace_loaded("departures", events(48), days=[day(0)])

    assert lake.snapshot() == before
    assert not list((lake.location.directory / "data").rglob("*.parquet"))
    assert [path.name for path in (lake.location.directory / "staging").rglob("*") if path.is_file()] == ["owner.lock"]


@local_only
@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("delay", pa.array(["soon"]), "column 'delay' is VARCHAR, expected DOUBLE"),
        ("at", pa.array([0], pa.timestamp("us")), "column 'at' is TIMESTAMP, expected TIMESTAMP WITH TIME ZONE"),
        ("_event_id", pa.array([None], pa.string()), "1 rows without `_event_id`"),
        ("_event_us", pa.array([None], pa.int64()), "days that are not being written: null"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_column(lake, column, values, message):
    rows = events(1)
    rows = rows.set_column(rows.column_names.index(column), column, values)

    with pytest.raises(LakeError, match=message):
        lake.replace_loaded("departures", rows, days=[day(0)])


@local_only
def test_a_missing_and_an_unknown_column_are_named(lake):
    rows = events(1).rename_columns(["airport", "late_by", "at", "_event_id", "_event_us"])

    with pytest.raises(LakeError, match="column 'delay' is missing; unknown column 'late_by'"):
        lake.replace_loaded("departures", rows, days=[day(0)])


@local_only
def test_a_day_that_contradicts_the_event_time_is_refused(lake):
    rows = events(1).append_column("_day", pa.array([day(1)]))

    with pytest.raises(LakeError, match="1 rows whose `_day` is not the UTC day of `_event_us`"):
        lake.replace_loaded("departures", rows, days=[day(1)])


@local_only
def test_a_narrower_type_is_widened(lake):
    rows = events(2)
    rows = rows.set_column(1, "delay", pa.array([1.5, 2.5], pa.float32()))
    rows = rows.set_column(0, "airport", rows["airport"].dictionary_encode())

    lake.replace_loaded("departures", rows, days=[day(0)])

    assert query(lake, f"SELECT sum(delay), min(airport) FROM ({lake.events_sql('departures')})") == [(4.0, "JFK")]


@local_only
def test_a_repeated_event_is_kept_once_and_counted(lake):
    commit = lake.replace_loaded("departures", pa.concat_tables([events(24), events(3)]), days=[day(0)])

    assert (commit.rows, commit.duplicates, commit.conflicts) == (24, 3, 0)
    assert query(lake, "SELECT count(*) FROM rejected_events") == [(0,)]


def test_a_conflicting_event_id_keeps_the_first_arrival_and_rejects_the_other(lake):
    early, late = events(1), events(1, delay=99.0)
    rows = pa.concat_tables(
        [late.append_column("_arrived_us", pa.array([20])), early.append_column("_arrived_us", pa.array([10]))]
    )

    commit = lake.replace_loaded("departures", rows, days=[day(0)])

    assert (commit.rows, commit.conflicts) == (1, 1)
    assert query(lake, f"SELECT delay FROM ({lake.events_sql('departures')})") == [(0.0,)]
    [(kind, event_id, payload)] = query(lake, "SELECT kind, event_id, payload FROM rejected_events")
    assert (kind, event_id) == ("conflict", "e0")
    assert b'"delay":99.0' in payload


@local_only
def test_an_event_id_of_another_day_is_a_conflict(lake):
    lake.replace_loaded("departures", events(1), days=[day(0)])
    moved = events(1, start_hour=24)
    moved = moved.set_column(3, "_event_id", pa.array(["e0"]))

    commit = lake.replace_loaded("departures", moved, days=[day(1)])

    assert (commit.rows, commit.conflicts) == (0, 1)
    assert query(lake, f"SELECT _event_id, _day FROM ({lake.events_sql('departures')})") == [("e0", day(0))]


def test_a_live_event_goes_before_the_same_event_loaded(lake):
    lake.append_live("departures", live(3), owner="a", start={0: 0}, end={0: 3})
    lake.replace_loaded("departures", events(24), days=[day(0)])

    text = lake.events_sql("departures")
    assert query(lake, f"SELECT count(*), count(_offset), count(DISTINCT _event_id) FROM ({text})") == [(24, 3, 24)]


@local_only
def test_a_filter_on_a_column_does_not_bring_back_the_loaded_twin_of_a_live_event(lake):
    corrected = live(1)
    corrected = corrected.set_column(1, "delay", pa.array([50.0]))
    lake.append_live("departures", corrected, owner="a", start={0: 0}, end={0: 1})
    lake.replace_loaded("departures", events(1), days=[day(0)])

    assert ids(lake, where="delay < 10") == set()


def test_the_same_events_are_read_at_a_snapshot_whatever_came_later(lake):
    first = lake.replace_loaded("departures", events(48), days=[day(0), day(1)]).snapshot
    second = lake.append_live("departures", live(30), owner="a", start={0: 0}, end={0: 30}).snapshot
    lake.replace_loaded("departures", events(2), days=[day(0), day(1)])
    lake.append_live("departures", live(2, start_hour=40, prefix="z"), owner="a", start={0: 30}, end={0: 32})

    for snapshot, live_rows in ((first, 0), (second, 30)):
        text = lake.events_sql("departures", snapshot=snapshot)
        assert query(lake, f"SELECT count(*), count(_offset), count(DISTINCT _event_id) FROM ({text})") == [
            (48, live_rows, 48)
        ]
    assert lake.positions("departures", snapshot=first) == {}
    assert lake.positions("departures", snapshot=second) == {0: 30}


def test_positions_are_read_where_something_came_over_the_log_if_only_to_be_rejected(lake, monkeypatch):
    lake.replace_loaded("departures", events(24), days=[day(0)])
    with monkeypatch.context() as patched:
        patched.setattr("feature_store.lake.live._positions", None)
        assert lake.positions("departures", snapshot=lake.snapshot()) == {}
    end = {0: 1}
    lake.append_live("departures", live(0), owner="a", start={0: 0}, end=end, rejected=rejected("rejected"))
    assert lake.positions("departures", snapshot=lake.snapshot()) == end


def test_within_steady_the_snapshot_stays_and_so_does_what_is_read_there(lake):
    lake.replace_loaded("departures", events(24), days=[day(0)])
    with lake.steady():
        held = lake.snapshot()
        with lake.steady():
            assert lake.snapshot() == held
        assert len(ids(lake, snapshot=held)) == 24
        lake.replace_loaded("departures", events(48), days=[day(0), day(1)])
        assert lake.snapshot() == held
        assert len(ids(lake, snapshot=held)) == 24
    assert lake.snapshot() > held
    assert len(ids(lake, snapshot=lake.snapshot())) == 48


def test_within_steady_transactions_are_begun_once_and_lent_again(lake):
    lake.replace_loaded("departures", events(24), days=[day(0)])
    with lake.steady():
        with lake.reading() as first, lake.reading() as beside:
            assert beside is not first
        with lake.reading() as again:
            assert again in (first, beside)
            assert again.execute("SELECT count(*) FROM events_departures_loaded").fetchone() == (24,)
            lake.replace_loaded("departures", events(48), days=[day(0), day(1)])
            assert not lake.exists("events_of_nobody")
        with lake.reading() as still:
            assert still.execute("SELECT count(*) FROM events_departures_loaded").fetchone() == (24,)
        with pytest.raises(duckdb.Error, match="wrong"), lake.reading() as failed:
            failed.execute("SELECT error('wrong')")
        with lake.reading() as another:
            assert another is not failed
            assert another.execute("SELECT 1").fetchone() == (1,)
    with lake.reading() as cursor:
        assert cursor.execute("SELECT count(*) FROM events_departures_loaded").fetchone() == (48,)


def test_days_are_counted_once_for_a_snapshot(lake, monkeypatch):
    lake.replace_loaded("departures", events(30), days=[day(0), day(1)])
    before = lake.snapshot()

    assert lake.counts("departures", [day(0), day(1), day(2)], snapshot=before) == {day(0): 24, day(1): 6, day(2): 0}
    lake.replace_loaded("departures", events(48), days=[day(0), day(1)])
    with monkeypatch.context() as patched:
        patched.setattr("feature_store.lake.events.events_sql", None)
        assert lake.counts("departures", [day(1)], snapshot=before) == {day(1): 6}
    assert lake.counts("departures", [day(1)], snapshot=lake.snapshot()) == {day(1): 24}


def test_the_days_of_each_source_are_its_own(lake):
    lake.ensure_source("arrivals", SCHEMA)
    lake.replace_loaded("arrivals", events(7), days=[day(0)])
    lake.replace_loaded("departures", events(30), days=[day(0), day(1)])

    counted = {
        source: lake.counts(source, [day(0), day(1)], snapshot=lake.snapshot()) for source in ("arrivals", "departures")
    }

    assert counted == {"arrivals": {day(0): 7, day(1): 0}, "departures": {day(0): 24, day(1): 6}}


def test_a_day_has_as_many_events_as_are_read_of_it_whatever_became_of_its_files(lake):
    days = [day(number) for number in range(4)]
    lake.replace_loaded("departures", events(72), days=days[:3])
    snapshots = [lake.snapshot()]
    lake.replace_loaded("departures", events(30), days=days[:2])
    lake.append_live("departures", live(3, start_hour=71), owner="a", start={0: 0}, end={0: 3})
    snapshots.append(lake.snapshot())
    lake.upkeep.compact("events_departures_loaded")
    lake.retention.remove("departures", days[:1])
    snapshots.append(lake.snapshot())

    counted = [lake.counts("departures", days, snapshot=snapshot) for snapshot in snapshots]

    read = "SELECT _day, count(*) FROM ({}) GROUP BY 1"
    for snapshot, found in zip(snapshots, counted, strict=True):
        assert {d: n for d, n in found.items() if n} == dict(
            query(lake, read.format(lake.events_sql("departures", snapshot=snapshot)))
        )
    assert [[*found.values()] for found in counted] == [[24, 24, 24, 0], [24, 6, 24, 2], [0, 6, 24, 2]]


@pytest.mark.parametrize("pinned", [False, True])
def test_days_keep_a_span_with_both_ends(lake, pinned):
    lake.replace_loaded("departures", events(96), days=[day(number) for number in range(4)])
    lake.append_live("departures", live(2, start_hour=24), owner="a", start={0: 0}, end={0: 2})
    snapshot = lake.snapshot() if pinned else None

    got = ids(lake, days=(day(1), day(2)), snapshot=snapshot)

    assert got == {f"e{hour}" for hour in range(24, 72)}


def test_a_span_of_days_reads_only_the_files_of_those_days(lake):
    lake.replace_loaded("departures", events(24 * 10), days=[day(number) for number in range(10)])

    text = lake.events_sql("departures", days=(day(3), day(4)), snapshot=lake.snapshot())

    [(_, plan)] = query(lake, f"EXPLAIN ANALYZE SELECT count(delay) FROM ({text})")
    assert "Total Files Read: 2" in plan


def test_live_commits_move_the_positions_of_each_partition(lake):
    lake.append_live("departures", live(2), owner="a", start={0: 0, 1: 1 << 48}, end={0: 2, 1: 1 << 48})
    commit = lake.append_live(
        "departures", live(1, start_hour=2), owner="a", start={1: 1 << 48}, end={1: (1 << 48) + 1}
    )

    assert lake.positions("departures") == {0: 2, 1: (1 << 48) + 1}
    assert (commit.rows, commit.days) == (1, (day(0),))
    assert lake.days("departures").live == [day(0)]


def test_a_commit_from_another_position_is_refused_and_writes_nothing(lake):
    lake.append_live("departures", live(2), owner="a", start={0: 0, 1: 5}, end={0: 2, 1: 6})
    before = lake.snapshot()

    with pytest.raises(PositionConflict) as refused:
        lake.append_live(
            "departures",
            live(2, prefix="b"),
            owner="b",
            start={0: 2, 1: 5},
            end={0: 4, 1: 7},
            rejected=rejected("rejected"),
        )

    assert refused.value.found == {0: 2, 1: 6}
    assert lake.snapshot() == before
    assert ids(lake) == {"e0", "e1"}
    assert query(lake, "SELECT count(*) FROM rejected_events") == [(0,)]


@local_only
def test_a_batch_of_dead_letters_alone_moves_the_position(lake):
    commit = lake.append_live(
        "departures",
        live(0),
        owner="a",
        start={0: 0},
        end={0: 3},
        rejected=rejected("rejected", "duplicate", "conflict"),
    )

    assert (commit.rows, commit.days, commit.duplicates, commit.conflicts) == (0, (), 1, 1)
    assert lake.positions("departures") == {0: 3}
    assert query(lake, 'SELECT kind, "offset", payload FROM rejected_events ORDER BY 2') == [
        ("rejected", 0, b"{"),
        ("duplicate", 1, b"{"),
        ("conflict", 2, b"{"),
    ]


@local_only
def test_positions_must_not_go_back(lake):
    with pytest.raises(InputError, match="each at or after it"):
        lake.append_live("departures", live(0), owner="a", start={0: 5}, end={0: 4})


@local_only
def test_a_live_event_without_an_id_is_refused(lake):
    rows = live(1)
    rows = rows.set_column(3, "_event_id", pa.array([None], pa.string()))

    with pytest.raises(LakeError, match="rows without `_event_id`"):
        lake.append_live("departures", rows, owner="a", start={0: 0}, end={0: 1})


def test_the_books_tell_every_commit(lake):
    load = lake.replace_loaded("departures", events(24), days=[day(0)])
    commit = lake.append_live("departures", live(1, start_hour=24), owner="a", start={0: 0}, end={0: 9})

    rows = query(lake, "SELECT snapshot, source, kind, days, rows, positions, owner, at_us FROM commits ORDER BY 1")
    assert rows == [
        (load.snapshot, "departures", "loaded", [day(0)], 24, {}, None, 7),
        (commit.snapshot, "departures", "live", [day(1)], 1, {0: 9}, "a", 7),
    ]


def test_a_new_column_is_added_and_null_in_older_events(lake):
    lake.replace_loaded("departures", events(24), days=[day(0)])
    first = lake.snapshot()

    lake.ensure_source("departures", SCHEMA.append(pa.field("gate", pa.string())))
    wider = events(24, start_hour=24).append_column("gate", pa.array(["B7"] * 24))
    lake.replace_loaded("departures", wider, days=[day(1)])

    assert query(lake, f"SELECT count(*), count(gate) FROM ({lake.events_sql('departures')})") == [(48, 24)]
    older = lake.events_sql("departures", snapshot=first)
    assert query(lake, f"SELECT count(*), count(gate) FROM ({older})") == [(24, 0)]


def test_a_writer_that_declared_an_older_schema_writes_on(lake):
    with Lake.open(lake.location) as newer:
        newer.ensure_source("departures", SCHEMA.append(pa.field("gate", pa.string())))

    lake.append_live("departures", live(1), owner="a", start={0: 0}, end={0: 1})

    assert query(lake, f"SELECT gate FROM ({lake.events_sql('departures')})") == [(None,)]


@local_only
def test_a_column_keeps_its_type(lake):
    with pytest.raises(LakeError, match="column 'delay' is DOUBLE in the lake, but BIGINT is wanted"):
        lake.ensure_source("departures", pa.schema([("delay", pa.int64())]))


@local_only
def test_names_the_lake_keeps_for_itself_are_refused(lake):
    with pytest.raises(InputError, match="column names \\['_day'\\] are the lake's own"):
        lake.ensure_source("arrivals", pa.schema([("_day", pa.date32())]))
    with pytest.raises(InputError, match="`source` must be letters, digits and _"):
        lake.ensure_source("a-b", SCHEMA)


@local_only
def test_an_unknown_source_names_the_known_ones(lake):
    with pytest.raises(UnknownNameError, match="did you mean 'departures'"):
        lake.events_sql("departure")
    with lake.steady(), pytest.raises(UnknownNameError, match="did you mean 'departures'"):
        lake.events_sql("departure", snapshot=lake.snapshot())


@local_only
def test_a_query_that_fails_is_reported_in_one_line(lake):
    with pytest.raises(LakeError, match="events of source 'departures' cannot be staged: Catalog Error") as error:
        lake.replace_loaded("departures", "SELECT * FROM nowhere", days=[day(0)])

    assert "\n" not in str(error.value)


def test_every_kind_of_column_comes_back_as_it_was(lake):
    columns = {
        "flag": pa.array([True, None]),
        "small": pa.array([1, None], pa.int8()),
        "big": pa.array([2**62, None], pa.int64()),
        "money": pa.array(["1.25", None]).cast(pa.decimal128(10, 2)),
        "day": pa.array([date(2024, 2, 29), None]),
        "raw": pa.array([b"\x00\xff", None]),
        "many": pa.array([[1, 2], None], pa.list_(pa.int64())),
        "named": pa.array([{"a": 1}, None], pa.struct([("a", pa.int64())])),
        "text": pa.array(["naïve 'quoted'", None]),
    }
    schema = pa.schema([(name, array.type) for name, array in columns.items()])
    lake.ensure_source("kinds", schema)
    system = events(2).select(["_event_id", "_event_us"])
    table = pa.table({**columns, **{name: system[name] for name in system.column_names}})

    lake.replace_loaded("kinds", table, days=[day(0)])

    cursor = lake.cursor()
    back = cursor.execute(f"SELECT * FROM ({lake.events_sql('kinds')}) ORDER BY _event_id").to_arrow_table()
    assert back.select(list(columns)).to_pylist() == table.select(list(columns)).to_pylist()


def test_a_loaded_event_that_contradicts_what_came_live_is_rejected_and_the_live_one_stays(lake):
    lake.append_live("departures", live(3), owner="a", start={0: 0}, end={0: 3})
    rows = pa.concat_tables([events(1, delay=99.0), events(23, start_hour=1)])

    commit = lake.replace_loaded("departures", rows, days=[day(0)])

    assert (commit.rows, commit.conflicts) == (23, 1)
    assert query(lake, "SELECT event_id, kind FROM rejected_events") == [("e0", "conflict")]
    assert query(lake, f"SELECT count(*), max(delay) FROM ({lake.events_sql('departures')})") == [(24, 23.0)]


@local_only
def test_dead_letters_of_a_load_are_committed_with_it_and_only_once(lake):
    letters = rejected("rejected", "rejected").drop_columns(["partition", "offset"])
    letters = letters.append_column("partition", pa.array([None, None], pa.int32()))
    letters = letters.append_column("offset", pa.array([None, None], pa.int64()))
    conflicting = pa.concat_tables([events(1), events(1, delay=9.0)])

    for _ in range(2):
        lake.replace_loaded("departures", conflicting, days=[day(0)], rejected=letters)

    assert query(lake, "SELECT kind, count(*) FROM rejected_events GROUP BY ALL ORDER BY 1") == [
        ("conflict", 1),
        ("rejected", 2),
    ]


@local_only
def test_columns_may_have_any_name(lake):
    names = ["payload", "rank", "taken", "select", "kind", "a b"]
    schema = pa.schema([(name, pa.int64()) for name in names])
    lake.ensure_source("odd", schema)
    system = events(2).select(["_event_id", "_event_us"])
    columns = {**{name: [1, 2] for name in names}, **{name: system[name] for name in system.column_names}}
    table = pa.table(columns)

    commit = lake.replace_loaded("odd", pa.concat_tables([table, table]), days=[day(0)])

    assert (commit.rows, commit.duplicates) == (2, 2)
    assert query(lake, f'SELECT sum("a b"), sum("select") FROM ({lake.events_sql("odd")})') == [(3, 3)]
