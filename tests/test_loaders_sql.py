"""History in databases: a real Postgres with passwords, SQLite and DuckDB, read by a query for a range."""

import re
import sqlite3
from datetime import timedelta

import duckdb
import pytest
from sales_world import DAY, START, accounted, events, load, opening, rejected

from feature_store import InputError
from feature_store.embedded import free_port
from feature_store.errors import DeclarationError
from feature_store.loaders import sql

PASSWORD = "p@ss w'rd"
QUERY = 'SELECT * FROM sales WHERE "at" >= $start AND "at" < $end'
TABLE = f"""
CREATE TABLE sales (uid text, shop text, at timestamptz, amount numeric(10, 2), items bigint, came timestamptz);
INSERT INTO sales
SELECT 'sale ' || n, 'bath', '2024-03-29 12:00Z'::timestamptz + n * interval '1 day', n, n, '2024-04-30Z'
FROM generate_series(0, 3) AS n;
CREATE USER reader PASSWORD '{PASSWORD.replace("'", "''")}';
GRANT SELECT ON sales TO reader;
"""


@pytest.fixture(scope="module")
def postgres(postgres_server):
    """Connection words for a user who needs a password."""
    postgres_server.psql("CREATE DATABASE sales;")
    postgres_server.psql(f"\\connect sales\n{TABLE}")
    return postgres_server.words("sales", user="reader")


@pytest.fixture
def open_store(tmp_path):
    with opening(tmp_path) as build:
        yield build


def with_password(words, password=PASSWORD):
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    return f"{words} password='{quoted}'"


def test_a_query_over_postgres_is_loaded_for_the_wanted_days(postgres, open_store, monkeypatch):
    monkeypatch.setenv("SALES_DSN", with_password(postgres))
    loader = sql(f"{QUERY} -- sales\n;", attach="postgres:env:SALES_DSN", arrival="came")
    store = open_store(loader)

    result = load(store)

    assert (result.rows, result.rejected) == (2, 0)
    hour = 3_600_000_000
    assert [(row[0], row[3], row[4], row[7] is not None, row[6] % (24 * hour) // hour) for row in events(store)] == [
        ("sale 1", 1.0, 1, True, 12),
        ("sale 2", 2.0, 2, True, 12),
    ]
    assert "p@ss" not in repr(store.registry.source("sales"))


def test_the_password_may_come_from_where_postgres_looks_for_it(postgres, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)

    found = sql(QUERY, attach=f"postgres:{postgres}")(START, START + DAY)

    assert found.column("uid").to_pylist() == ["sale 1"]


def test_rows_of_a_database_that_do_not_fit_are_kept_with_their_reason(tmp_path, open_store):
    path = tmp_path / "sales.db"
    with duckdb.connect(path) as connection:
        connection.execute(
            "CREATE TABLE sales AS SELECT 'a' AS uid, 'x' AS shop, TIMESTAMP '2024-03-30 23:30' AS at, 1.0 AS amount, 1.5 AS items"
        )
        connection.execute("INSERT INTO sales VALUES ('b', 'x', '2024-03-30 00:30', 2, 2)")
    store = open_store(sql(QUERY, attach=f"duckdb:{path}"), timezone="Europe/Berlin")

    result = load(store)

    # 00:30 in Berlin belongs to the day before in UTC, which was not asked for.
    assert (result.rows, result.rejected) == (0, 1)
    assert rejected(store) == [("a", "column 'items': Decimal('1.5') is not int64", "rejected")]


def test_sqlite_is_read_too_and_is_not_written(tmp_path):
    path = tmp_path / "sales.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sales (uid TEXT, at TEXT)")
        connection.executemany(
            "INSERT INTO sales VALUES (?, ?)", [("a", "2024-03-30 10:00:00Z"), ("b", "2024-03-31 10:00:00Z")]
        )
    connection.close()
    query = 'SELECT uid, "at" FROM sales WHERE "at"::TIMESTAMPTZ >= $start AND "at"::TIMESTAMPTZ < $end'

    found = sql(query, attach=f"sqlite:{path}")(START, START + DAY)

    assert found.to_pydict() == {"uid": ["a"], "at": ["2024-03-30 10:00:00Z"]}
    with pytest.raises(InputError, match="`query` must be one SELECT, got 3 statements in"):
        sql("SELECT 1) AS x; DELETE FROM sales; SELECT $start, $end FROM (SELECT 1", attach=f"sqlite:{path}")(
            START, START + DAY
        )


def wrong_password(words, _tmp_path):
    return (
        with_password(words, "s3cret-guess"),
        QUERY,
        'cannot be reached: .*password authentication failed for user "reader"',
    )


def no_server(_words, _tmp_path):
    port = free_port()
    dsn = f"postgresql://reader:s3cret-guess@127.0.0.1:{port}/postgres"
    return dsn, QUERY, f'cannot be reached: connection to server at "127.0.0.1", port {port} failed: Connection refused'


def no_database(words, _tmp_path):
    return re.sub(r"dbname=\S+", "dbname=shop", with_password(words)), QUERY, 'database "shop" does not exist'


def malformed(_words, _tmp_path):
    return "hostt=/tmp password=s3cret-guess", QUERY, "database 'postgres:env:SALES_DSN' cannot be reached: "


def no_table(words, _tmp_path):
    return (
        with_password(words),
        QUERY.replace("sales", "sails"),
        "query 'SELECT .*': Catalog Error: Table with name sails",
    )


def no_sql(words, _tmp_path):
    return (
        with_password(words),
        "SELEC 1 WHERE now() BETWEEN $start AND $end",
        "query 'SELEC .*': Parser Error: syntax error at or near \"1\"",
    )


def not_set(_words, _tmp_path):
    return "", QUERY, "environment variable 'SALES_DSN', named by `attach='postgres:env:SALES_DSN'`, is not set"


@pytest.mark.parametrize("case", [wrong_password, no_server, no_database, malformed, no_table, no_sql, not_set])
def test_a_database_that_refuses_is_named_without_its_password_and_nothing_is_written(
    case, postgres, open_store, monkeypatch, tmp_path
):
    dsn, query, message = case(postgres, tmp_path)
    monkeypatch.setenv("SALES_DSN", dsn)
    store = open_store(sql(query, attach="postgres:env:SALES_DSN"))

    with pytest.raises(InputError, match=message) as caught:
        load(store)

    assert not accounted(store)
    assert caught.value.__context__ is None
    assert "s3cret-guess" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "none.sqlite").write_text("this is not SQLite" * 100)

    for name, said in (("none.sqlite", "file is not a database"), ("absent.sqlite", "unable to open")):
        with pytest.raises(InputError, match=f"database 'sqlite:.*{name}'.*{said}"):
            sql(QUERY, attach=f"sqlite:{tmp_path / name}")(START, START + timedelta(days=1))


@pytest.mark.parametrize(
    ("query", "attach", "message"),
    [
        ("SELECT * FROM sales", "sqlite:a.db", r"(?s)`query` must use `\$start`.* got 'SELECT \* FROM sales'.*`\$end`"),
        (
            QUERY,
            "mysql:host=db",
            "`attach` must be kind:where, .*kinds: duckdb, postgres, sqlite.*, got 'mysql:host=db'",
        ),
        (QUERY, "postgres:env:", "`attach` must be kind:where"),
        (
            QUERY,
            "postgres:host=db password=secret",
            r"`attach` must not hold a password; put [^=]*='postgres:env:NAME'`",
        ),
        (QUERY, "postgres:postgresql://me:secret@db/shop", "`attach` must not hold a password"),
    ],
)
def test_a_wrong_declaration_is_refused_before_anything_is_read(query, attach, message):
    with pytest.raises(DeclarationError, match=message) as caught:
        sql(query, attach=attach)

    assert "secret" not in str(caught.value)
