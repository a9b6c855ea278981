"""What can be wrong with a lake of several machines: each a LakeError in one line, without a password."""

import builtins
import urllib.parse

import pytest
from lake_rows import day, events, live, local_copy, open_lake
from shared_servers import object_server

from feature_store.errors import FeatureStoreError, InputError, LakeError
from feature_store.lake import Lake, LakeLocation
from feature_store.settings import Settings

PASSWORD = "s3cr:t/p@ss w'rd"


@pytest.fixture
def shared(shared_world, tmp_path):
    return shared_world.new(tmp_path / "lake")


@pytest.fixture
def with_password(shared_world, shared, tmp_path, monkeypatch):
    """Opens the lake as a user who needs a password, given in a connection string or a URL of an environment variable."""
    quoted = PASSWORD.replace("'", "''")
    database = shared.files.rpartition("/")[2]
    shared_world.postgres.psql(f"CREATE USER {database} SUPERUSER PASSWORD '{quoted}';")
    host, user = urllib.parse.quote(shared_world.postgres.socket, safe=""), database

    def location(password, *, url=True):
        words = f"host={shared_world.postgres.socket} dbname={database} user={user}"
        escaped = password.replace("\\", "\\\\").replace("'", "\\'")
        as_url = f"postgresql://{user}:{urllib.parse.quote(password, safe='')}@{host}/{database}"
        monkeypatch.setenv("LAKE_DSN", as_url if url else f"{words} password='{escaped}'")
        return LakeLocation(tmp_path / "other", "postgres:env:LAKE_DSN", shared.files)

    return location


def refused(place) -> str:
    with pytest.raises(FeatureStoreError) as error:
        Lake.open(place)
    return str(error.value)


@pytest.mark.parametrize("url", [True, False])
def test_the_password_stands_in_the_environment_and_is_shown_nowhere(with_password, url, capfd):
    with open_lake(with_password(PASSWORD, url=url)) as lake:
        lake.replace_loaded("departures", events(2), days=[day(0)])
        with lake.cursor() as cursor:
            shown = [
                cursor.execute(f"FROM {function}()").fetchall()
                for function in ("duckdb_databases", "duckdb_secrets", "duckdb_settings")
            ]

    assert PASSWORD not in f"{shown}{lake.location!r}{lake.location}"
    assert PASSWORD not in "".join(capfd.readouterr())


def test_a_url_without_a_password_names_the_catalog_as_well(shared_world, shared):
    host = urllib.parse.quote(shared_world.postgres.socket, safe="")
    place = LakeLocation(
        shared.directory, f"postgres://postgres@{host}/{shared.files.rpartition('/')[2]}", shared.files
    )

    with Lake.open(place) as lake:
        assert lake.sources() == ["departures"]


def test_data_may_be_a_directory_that_all_machines_have(shared_world, tmp_path):
    catalog = shared_world.empty(tmp_path).catalog
    place = LakeLocation(tmp_path / "here", catalog, str(tmp_path / "there"))

    with open_lake(place) as lake:
        lake.replace_loaded("departures", events(24), days=[day(0)])

    with Lake.open(LakeLocation(tmp_path / "elsewhere", catalog, str(tmp_path / "there"))) as lake:
        assert lake.days("departures").loaded == [day(0)]
    assert len(list((tmp_path / "there").rglob("*.parquet"))) == 1
    assert list((tmp_path / "here").rglob("*.parquet")) == []


def test_a_wrong_password_is_refused_without_being_shown(with_password):
    said = refused(with_password("wr:ng/p@ss"))

    assert "the lake's catalog 'postgres:env:LAKE_DSN' cannot be reached" in said
    assert "password authentication failed" in said
    assert "wr:ng" not in said
    assert "\n" not in said


def test_a_database_that_is_missing_is_named(shared_world, tmp_path):
    place = LakeLocation(tmp_path, f"postgres:{shared_world.postgres.words('nowhere')}", "s3://lake/nowhere")

    assert 'database "nowhere" does not exist); start Postgres, or correct `lake_catalog`' in refused(place)


def test_a_postgres_that_is_down_is_named(tmp_path):
    said = refused(LakeLocation(tmp_path, "postgres:host=127.0.0.1 port=1 dbname=x user=y", str(tmp_path / "data")))

    assert "the lake's catalog 'postgres:host=127.0.0.1 port=1 dbname=x user=y' cannot be reached (" in said
    assert "Connection refused" in said


def test_a_bucket_that_is_missing_is_named(shared, shared_world, tmp_path):
    place = LakeLocation(tmp_path, shared.catalog, "s3://no-such-bucket/lake")

    assert f"bucket 'no-such-bucket' does not exist at {shared_world.objects.url}" in refused(place)


def test_a_wrong_key_of_s3_is_refused_without_being_shown(shared, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wr0ng")

    said = refused(shared)

    assert "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said
    assert "wr0ng" not in said


def test_an_s3_server_that_is_down_is_named(shared, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    assert "no S3 server answers at http://127.0.0.1:1" in refused(shared)


def test_a_catalog_of_other_data_is_refused(shared, tmp_path):
    said = refused(LakeLocation(tmp_path, shared.catalog, f"{shared.files}-other"))

    assert f"`lake_data` is '{shared.files}-other', but the catalog '{shared.catalog}' belongs to the data" in said
    assert f"in '{shared.files}/'" in said


def test_a_missing_package_names_the_extra(shared, monkeypatch):
    found = builtins.__import__

    def without_psycopg(name, *arguments, **options):
        if name.partition(".")[0] == "psycopg":
            raise ImportError(name)
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_psycopg)

    assert refused(shared) == "package 'psycopg' is not installed; install feature-store[shared]"


@pytest.mark.parametrize(
    ("catalog", "data", "message"),
    [
        ("postgres:dbname=x", None, "`lake_data` must be given with `lake_catalog`"),
        (None, "s3://b/lake", "`lake_catalog` must be given with `lake_data`"),
        ("postgres://me:pw@host/db", "s3://bucket/lake", "`lake_catalog` must not hold a password"),
        ("mysql:dbname=x", "s3://bucket/lake", r"`lake_catalog` must be kind:where, .*\(kinds: postgres\)"),
        ("postgres:dbname=x", "gs://bucket/lake", "`lake_data` must be s3://bucket/prefix or a directory"),
    ],
)
def test_a_location_that_breaks_a_rule_is_refused(tmp_path, catalog, data, message):
    with pytest.raises(InputError, match=message) as error:
        LakeLocation.of(Settings(home=tmp_path, lake_catalog=catalog, lake_data=data))

    assert "me:pw" not in str(error.value)


def test_a_variable_that_is_not_set_or_holds_nonsense_is_named(tmp_path, monkeypatch):
    place = LakeLocation(tmp_path, "postgres:env:NO_DSN", "s3://lake/x")
    assert "'NO_DSN', named by `lake_catalog='postgres:env:NO_DSN'`, is not set" in refused(place)

    monkeypatch.setenv("NO_DSN", "password=hush nonsense")
    assert refused(place) == "`lake_catalog='postgres:env:NO_DSN'`: that is no connection string of Postgres"


def test_a_lake_goes_on_when_its_postgres_has_been_away(shared_world, shared):
    with open_lake(shared, lock_timeout_s=30) as lake:
        lake.append_live("departures", live(2), owner="a", start={0: 0}, end={0: 2})
        shared_world.postgres.stop()
        try:
            for use in (
                lambda: lake.append_live("departures", live(2, first=2), owner="a", start={0: 2}, end={0: 4}),
                lambda: lake.positions("departures"),
                lake.snapshot,
                lake.cursor,
            ):
                with pytest.raises(LakeError, match=r"the lake's catalog 'postgres:.*' cannot be reached \(") as error:
                    use()
                assert "\n" not in str(error.value)
        finally:
            shared_world.postgres.start()

        assert lake.positions("departures") == {0: 2}
        lake.append_live("departures", live(2, start_hour=2, first=2, prefix="f"), owner="a", start={0: 2}, end={0: 4})
        assert lake.positions("departures") == {0: 4}


def test_a_commit_whose_bucket_is_gone_writes_nothing(shared_world, tmp_path):
    client = shared_world.objects.client
    client.create_bucket(Bucket="gone")
    with open_lake(LakeLocation(tmp_path, shared_world.empty(tmp_path).catalog, "s3://gone/lake")) as lake:
        before = lake.snapshot()
        client.delete_bucket(Bucket="gone")

        for write in (
            lambda: lake.append_live("departures", live(2), owner="a", start={0: 0}, end={0: 2}),
            lambda: lake.replace_loaded("departures", events(24), days=[day(0)]),
        ):
            with pytest.raises(LakeError, match=r"bucket 'gone' does not exist|s3://gone/lake/.*404"):
                write()

        assert lake.snapshot() == before
        assert lake.positions("departures") == {}


def test_a_lake_whose_s3_server_goes_away_says_so(shared, monkeypatch):
    server = object_server()
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with open_lake(shared) as lake:
        lake.replace_loaded("departures", events(24), days=[day(0)])
        server.stop()

        with pytest.raises(LakeError, match=rf"no S3 server answers at {url} \(wanted for 's3://lake/"):
            lake.replace_loaded("departures", events(24), days=[day(0)])


def test_a_local_lake_needs_nothing_of_this(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "alone")

    with open_lake(local_copy(tmp_path / "lake")) as lake:
        assert str(lake.location) == str(tmp_path / "lake")
