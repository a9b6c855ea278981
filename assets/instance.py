"""Where Dagster keeps its books: an instance of its own below the store's home directory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from feature_store.errors import SettingsError

WORKSPACE = Path(__file__).parent.parent / "workspace.yaml"
"""What a webserver, a daemon and a backfill load."""

_TEMPLATE = Path(__file__).with_name("dagster.yaml")


def prepare_dagster_home(home: Path) -> Path:
    """The DAGSTER_HOME of a store, `<home>/dagster`, with its `dagster.yaml`; an existing file is left as it is.

    Raises:
        SettingsError: the directory cannot be written.
    """
    directory = home.absolute() / "dagster"
    target = directory / _TEMPLATE.name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.write_text(_TEMPLATE.read_text())
    except OSError as error:
        raise SettingsError(f"setting `home`: '{directory}' cannot be written: {error.strerror}") from error
    return directory


@contextmanager
def dagster_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance of a store, prepared if need be."""
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(home))) as instance:
        yield instance
