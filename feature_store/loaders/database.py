"""History in a database: a query of DuckDB's SQL over an attached Postgres, SQLite or DuckDB."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote

from feature_store.errors import DeclarationError, InputError
from feature_store.loaders.part import PART_ROWS, Part, gathered

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_EXTENSIONS = {
    "postgres": ("duckdb_extension_postgres_scanner", "postgres"),
    "sqlite": ("duckdb_extension_sqlite_scanner", "lake"),
}
_KINDS = ("duckdb", "postgres", "sqlite")
_PASSWORDS = (r"\bpassword\s*=\s*'((?:[^'\\]|\\.)*)'", r"\bpassword\s*=\s*([^\s'&]+)", r"://[^/@:]*:([^/@]+)@")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseLoader:
    """Reads what a query says; what `sql` returns. It holds no password."""

    query: str
    attach: str
    arrival: str | None = None

    def __call__(self, start: datetime, end: datetime) -> pa.Table:
        """The rows of the range, all at once. Naive times are UTC."""
        import pyarrow as pa

        return pa.concat_tables([part.rows for part in self.parts(start=start, end=end)], promote_options="permissive")

    def parts(self, *, start: datetime, end: datetime, timezone: str = "UTC") -> Iterator[Part]:
        """The query's rows with `$start` and `$end` bound, at least one part.

        Args:
            start: aware.
            end: aware.
            timezone: of naive times: of those that the query compares with `$start` and `$end`, and of its rows.

        Raises:
            InputError: the database cannot be reached, refuses the user, or refuses the query.
        """
        import duckdb

        from feature_store.duck import in_memory

        problem, secrets = None, self._secrets()
        connection = in_memory(timezone=timezone, trusting=True)
        try:
            self._attach(connection)
            statement = self._statement(connection)
            reader = connection.execute(statement, {"start": start, "end": end}).to_arrow_reader(PART_ROWS)
            yield from map(Part, _never_none(reader))
        except (duckdb.Error, OSError) as error:
            # A failure in the middle of the rows reaches Arrow as an OSError.
            problem = redacted(str(error), secrets)
        finally:
            connection.close()
        if problem is not None:  # raised here, so that no chained error shows the connection string
            raise InputError(self._explained(problem))

    def _attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        from feature_store.duck import distrust, literal, load_extension

        kind, _, _ = self.attach.partition(":")
        if kind in _EXTENSIONS:
            package, extra = _EXTENSIONS[kind]
            load_extension(connection, package, extra=extra, error=InputError)
        distrust(connection)
        typed = "" if kind == "duckdb" else f"TYPE {kind}, "
        connection.execute(f"ATTACH {literal(attached(self.attach))} AS attached ({typed}READ_ONLY)")
        connection.execute("USE attached")

    def _statement(self, connection: duckdb.DuckDBPyConnection) -> duckdb.Statement:
        query = self.query.strip().rstrip(";")
        statements = connection.extract_statements(f"SELECT * FROM ({query}\n) AS loaded")
        if len(statements) != 1:
            raise InputError(f"`query` must be one SELECT, got {len(statements)} statements in '{_short(self.query)}'")
        return statements[0]

    def _secrets(self) -> list[str]:
        """What no message may show: the connection string of an environment variable, and the password in it."""
        if ":env:" not in self.attach:
            return []
        target = attached(self.attach)
        found = [match for pattern in _PASSWORDS for match in re.findall(pattern, target)]
        return [target, *found, *map(unquote, found)]

    def _explained(self, problem: str) -> str:
        where = f"database '{self.attach}'"
        if "nable to connect to Postgres" in problem:
            return f"{where} cannot be reached: {after_address(problem)}"
        if problem.startswith(("IO Error", "Catalog Error: Cannot open")) and "nable to" in problem:
            return f"{where} cannot be opened: {one_line(problem)}"
        return f"{where}, query '{_short(self.query)}': {one_line(problem)}"


def sql(query: str, *, attach: str, arrival: str | None = None) -> DatabaseLoader:
    """Read what a query over an attached database returns.

    Args:
        query: one SELECT of DuckDB's SQL. `$start` and `$end` are aware times, the range that is wanted:
            `SELECT * FROM orders WHERE paid_at >= $start AND paid_at < $end`. Renaming and unnesting are the query's.
        attach: `kind:where`, the kind `postgres`, `sqlite` or `duckdb`, the rest a connection string (for Postgres also
            `//user@host:port/database`) or a path, or `env:NAME`, the environment variable that holds it:
            `postgres:env:ORDERS_DSN`. A password stands there, in `PGPASSWORD` or in a password file, never in the
            declaration.
        arrival: the column that says when an event arrived.

    Raises:
        DeclarationError: a parameter is missing in the query, or `attach` breaks its rule.
    """
    problems = [
        f"`query` must use `${name}`, so that only the wanted range is read, got '{_short(query)}'"
        for name in ("start", "end")
        if not re.search(rf"\${name}\b", query)
    ]
    problems += attach_problems(attach)
    if problems:
        raise DeclarationError([f"loader `sql`: {problem}" for problem in problems])
    return DatabaseLoader(query=query, attach=attach, arrival=arrival)


def redacted(text: str, secrets: list[str]) -> str:
    """`text` without the secrets, the longest first."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "...")
    return text


def attached(attach: str, *, name: str = "attach") -> str:
    """The connection string or path that `kind:where` names.

    Raises:
        InputError: the environment variable that it names is not set.
    """
    _, _, rest = attach.partition(":")
    if not rest.startswith("env:"):
        return attach if rest.startswith("//") else rest
    variable = rest.removeprefix("env:")
    value = os.environ.get(variable, "")
    if not value:
        raise InputError(f"environment variable '{variable}', named by `{name}='{attach}'`, is not set")
    return value


def attach_problems(attach: str, *, name: str = "attach", kinds: Sequence[str] = _KINDS) -> list[str]:
    """What is wrong with a database's `kind:where`, given under this name."""
    kind, _, rest = attach.partition(":")
    if any(re.search(pattern, attach) for pattern in _PASSWORDS):
        remedy = f"put the connection string into an environment variable and name it: `{name}='postgres:env:NAME'`"
        return [f"`{name}` must not hold a password; {remedy}"]
    if kind not in kinds or not rest or rest == "env:":
        return [
            f"`{name}` must be kind:where, such as 'postgres:env:ORDERS_DSN' (kinds: {', '.join(kinds)}), got '{attach}'"
        ]
    return []


def _never_none(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """The tables of a reader; an empty one if there are no rows, so that its columns are checked."""
    import pyarrow as pa

    found = False
    for table in gathered(reader):
        found = True
        yield table
    if not found:
        yield pa.Table.from_batches([], schema=reader.schema)


def after_address(problem: str) -> str:
    """Libpq's own words, which name host and port but no password."""
    return one_line(problem.partition('": ')[2] or problem)


def one_line(text: str) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else text


def _short(query: str, *, limit: int = 80) -> str:
    text = " ".join(query.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


__all__ = ["DatabaseLoader", "after_address", "attach_problems", "attached", "one_line", "redacted", "sql"]
