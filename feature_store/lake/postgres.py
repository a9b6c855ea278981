"""The Postgres server that holds a shared lake's catalog: how it is reached, without showing its password."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from feature_store.duck import literal
from feature_store.errors import InputError, LakeError
from feature_store.loaders.database import attached, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb
    import psycopg

_CONNECT_TIMEOUT_S = 10


class Postgres:
    """The server that a lake's `catalog` names. The password is kept apart from the words that DuckDB may show."""

    def __init__(self, catalog: str) -> None:
        """Read the connection string.

        Raises:
            InputError: the environment variable that it names is not set, or holds no connection string.
            LakeError: the package `psycopg` is not installed.
        """
        self.catalog = catalog
        given = attached(catalog, name="lake_catalog")
        parameters = _parsed(given)
        if parameters is None:  # raised here, so that no chained error shows the string
            raise InputError(f"`lake_catalog='{catalog}'`: that is no connection string of Postgres")
        self._parameters = {"connect_timeout": str(_CONNECT_TIMEOUT_S), **parameters}

    def attach(
        self, connection: duckdb.DuckDBPyConnection, name: str, *, prefix: str = "", options: Sequence[str] = ()
    ) -> None:
        """Attach the database to DuckDB. The password travels as a secret: neither a message nor a catalog shows it.

        Args:
            connection: with the extension loaded.
            name: of the attached database.
            prefix: before the connection string, `ducklake:postgres:`; by default the database's own tables are attached.
            options: further options of ATTACH.
        """
        listed = [*options] if prefix else ["TYPE postgres", *options]
        if self._parameters.get("password"):
            password = literal(self._parameters["password"])
            connection.execute(f"CREATE OR REPLACE TEMPORARY SECRET catalog (TYPE postgres, PASSWORD {password})")
            listed.append(f"{'META_SECRET' if prefix else 'SECRET'} 'catalog'")
        connection.execute(f"ATTACH {literal(prefix + self._words())} AS {name} ({', '.join(listed)})")

    def connect(self) -> psycopg.Connection:
        """A connection of its own, in which each statement commits.

        Raises:
            LakeError: the server does not answer, or refuses the user.
        """
        import psycopg
        from psycopg.conninfo import make_conninfo

        name = f"feature-store on {socket.gethostname()[:32]} pid {os.getpid()}"
        try:
            return psycopg.connect(make_conninfo(**{**self._parameters, "application_name": name}), autocommit=True)
        except psycopg.Error as error:
            raise LakeError(self.away(str(error))) from error

    def _words(self) -> str:
        """The connection string without its password."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo(**{name: value for name, value in self._parameters.items() if name != "password"})

    def away(self, problem: str) -> str:
        """The sentence for a server that cannot be used."""
        said = one_line(problem).removeprefix("connection failed: ")
        return (
            f"the lake's catalog '{self.catalog}' cannot be reached ({said}); "
            "start Postgres, or correct `lake_catalog` or its password"
        )


def _parsed(given: str) -> dict[str, str] | None:
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as missing:
        raise LakeError("package 'psycopg' is not installed; install feature-store[shared]") from missing
    try:
        return {name: str(value) for name, value in conninfo_to_dict(given).items()}
    except psycopg.ProgrammingError:
        return None
