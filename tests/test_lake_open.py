"""Opening a lake: where it is, who holds it, what is left of those who died."""

import multiprocessing
import os
import shutil
import threading
import time

import duckdb
import pytest
from lake_rows import SCHEMA, append_then_hold, day, events, new_lake, open_lake

from feature_store.duck import extension_file, load_extension
from feature_store.errors import InputError, LakeError
from feature_store.lake import Lake, LakeLocation, connection


def test_a_lake_is_found_again(place):
    with open_lake(place) as lake:
        lake.replace_loaded("departures", events(24), days=[day(0)])

    with Lake.open(place) as lake:
        cursor = lake.cursor()
        assert cursor.execute(f"SELECT count(*) FROM ({lake.events_sql('departures')})").fetchall() == [(24,)]
        assert lake.sources() == ["departures"]


def test_a_closed_lake_leaves_no_staging_behind(place):
    open_lake(place).close()

    assert list((place.directory / "staging").iterdir()) == []


def test_a_lake_may_be_moved(tmp_path):
    with new_lake(tmp_path / "here") as lake:
        lake.replace_loaded("departures", events(24), days=[day(0)])
    (tmp_path / "here").rename(tmp_path / "there")

    with Lake.open(tmp_path / "there") as lake:
        lake.replace_loaded("departures", events(24, start_hour=24), days=[day(1)])
        cursor = lake.cursor()
        assert cursor.execute(f"SELECT count(*) FROM ({lake.events_sql('departures')})").fetchall() == [(48,)]


def test_two_environments_of_one_catalog_never_meet(place):
    with open_lake(place) as dev, Lake.open(place, env="prod") as prod:
        dev.replace_loaded("departures", events(24), days=[day(0)])

        assert prod.sources() == []
        prod.ensure_source("departures", SCHEMA)
        assert prod.days("departures").loaded == []
        assert prod.cursor().execute("SELECT count(*) FROM events_departures_loaded").fetchall() == [(0,)]


def test_an_environment_is_a_plain_name(tmp_path):
    with pytest.raises(InputError, match="`env` must be lower-case letters, digits and _"):
        Lake.open(tmp_path, env="prod'; DROP")


def test_a_path_that_cannot_be_a_directory_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("not a directory")

    with pytest.raises(LakeError, match=r"the lake at .*/file/lake cannot be written \(.*make the directory writable"):
        Lake.open(tmp_path / "file" / "lake")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_permission_is_refused(tmp_path):
    (tmp_path / "lake").mkdir(mode=0o500)

    with pytest.raises(LakeError, match="cannot be written"):
        Lake.open(tmp_path / "lake")


def test_a_catalog_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "catalog.sqlite").write_text("this is not SQLite" * 100)

    with pytest.raises(LakeError, match=r"the lake at .* cannot be opened: "):
        Lake.open(tmp_path)

    assert list((tmp_path / "staging").iterdir()) == []


def test_a_missing_extension_package_names_the_extra():
    with pytest.raises(LakeError, match=r"'duckdb-extension-nothing' is not installed; install feature-store\[lake\]"):
        extension_file("duckdb_extension_nothing")


def test_an_extension_is_trusted_only_from_its_package_and_only_while_the_lake_is_opened(place, tmp_path):
    changed = bytearray(extension_file("duckdb_extension_httpfs").read_bytes())
    changed[1000] ^= 1
    file = tmp_path / "tpch.duckdb_extension"
    file.write_bytes(changed)

    with open_lake(place) as lake:
        cursor = lake.cursor()
        with pytest.raises(duckdb.IOException, match="its signature is either missing or invalid"):
            cursor.execute(f"LOAD '{file}'")
        for scope in ("", "GLOBAL"):
            with pytest.raises(duckdb.InvalidInputException, match="Cannot change allow_unsigned_extensions"):
                cursor.execute(f"SET {scope} allow_unsigned_extensions = true")


def test_opening_a_lake_hashes_no_extension(place, monkeypatch):
    told = []

    def load(some, *arguments, **options):
        told.append(some.execute("SELECT current_setting('allow_unsigned_extensions')").fetchone())
        load_extension(some, *arguments, **options)

    monkeypatch.setattr(connection, "load_extension", load)
    open_lake(place).close()

    assert told == [(True,), (True,)]


def test_cursors_are_in_utc_and_download_nothing(tmp_path):
    with new_lake(tmp_path / "lake") as lake:
        cursor = lake.cursor()
        assert cursor.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]
        assert cursor.execute("SELECT current_setting('autoinstall_known_extensions')").fetchall() == [(False,)]


def test_a_lake_that_another_process_holds_is_reported_and_free_again_when_it_dies(place, tmp_path):
    ready = tmp_path / "ready"
    with open_lake(place, lock_timeout_s=0.3) as lake:
        holder = multiprocessing.get_context("spawn").Process(target=append_then_hold, args=(place, ready))
        holder.start()
        try:
            wait_until(ready.exists)
            by = rf"'feature-store on .* pid {holder.pid}' \(backend" if place.is_shared else "another process"
            with pytest.raises(LakeError, match=rf"locked by {by}.* for 0\.3 s \("):
                lake.replace_loaded("departures", events(24), days=[day(0)])
            assert lake.days("departures").loaded == []  # reading is never blocked
        finally:
            holder.kill()
            holder.join()
        wait_until(lambda: is_free(lake))  # Postgres sees in its own time that the process is gone
        assert lake.replace_loaded("departures", events(24), days=[day(0)]).rows == 24


def test_threads_of_one_process_commit_one_after_the_other(place):
    with open_lake(place) as lake:
        threads = [
            threading.Thread(
                target=lake.replace_loaded,
                args=("departures", events(24, start_hour=24 * number)),
                kwargs={"days": [day(number)]},
            )
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        cursor = lake.cursor()
        assert cursor.execute(f"SELECT count(*) FROM ({lake.events_sql('departures')})").fetchall() == [(96,)]


def test_staging_of_a_process_that_lives_is_left_alone(tmp_path):
    with new_lake(tmp_path / "lake") as lake:
        (lake._session.staging / "mine").mkdir()
        orphan = tmp_path / "lake" / "staging" / "gone"
        shutil.copytree(lake._session.staging, orphan)

        Lake.open(tmp_path / "lake").close()

        assert (lake._session.staging / "mine").exists()
        assert not orphan.exists()


def is_free(lake: Lake) -> bool:
    try:
        with lake._session.commit_lock():
            return True
    except LakeError:
        return False


def wait_until(holds, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("kind", ["local", "shared"])
def test_opening_at_once_from_many_processes_works(kind, request, tmp_path):
    place = request.getfixturevalue("shared_world").empty(tmp_path) if kind == "shared" else LakeLocation(tmp_path)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=open_and_close, args=(place,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)

    assert [process.exitcode for process in processes] == [0, 0, 0, 0]


def open_and_close(place: LakeLocation) -> None:
    Lake.open(place).close()
