"""What makes Dagster's books quick changes nothing of what they say."""

from alembic.script import ScriptDirectory
from dagster._core.storage import sql
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from feature_store_deploy.assets.books import quicken_books
from sqlalchemy import create_engine


def test_the_newest_version_of_a_schema_is_alembics_and_is_read_once(monkeypatch):
    quicken_books()
    config = sql.get_alembic_config(sqlite_run_storage.__file__)
    newest = ScriptDirectory.from_config(config).get_current_head()

    with create_engine("sqlite://").connect() as empty:
        assert newest
        assert sql.check_alembic_revision(config, empty) == (None, newest)
        monkeypatch.setattr(ScriptDirectory, "from_config", None)
        assert sql.check_alembic_revision(config, empty) == (None, newest)
