"""Where Dagster keeps its books: an instance of each environment's own below the store's home directory.

A daemon starts whatever run it finds in its books, with its own settings. Books that two environments share would have
one start the runs of the other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import dagster as dg

from feature_store.errors import SettingsError
from feature_store.settings import Settings

_PACKAGED = files("feature_store_deploy.assets") / "workspace.yaml"
_TEMPLATE = Path(__file__).with_name("dagster.yaml")


def workspace_file() -> Path:
    """What a webserver, a daemon and a backfill load: the working folder's `workspace.yaml`, or else one that suits any."""
    own = Path.cwd() / "workspace.yaml"
    return own if own.exists() else Path(str(_PACKAGED))


def dagster_home(settings: Settings) -> Path:
    """The DAGSTER_HOME of a deployment, `<home>/dagster/<env>`."""
    return settings.home.absolute() / "dagster" / settings.environment


def prepare_dagster_home(settings: Settings) -> Path:
    """The DAGSTER_HOME of a deployment, with its `dagster.yaml`; an existing file is left as it is.

    Raises:
        SettingsError: the directory cannot be written.
    """
    directory = dagster_home(settings)
    target = directory / _TEMPLATE.name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.write_text(_TEMPLATE.read_text())
    except OSError as error:
        raise SettingsError(f"setting `home`: '{directory}' cannot be written: {error.strerror}") from error
    return directory


@contextmanager
def dagster_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The instance of a deployment, prepared if need be."""
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(settings))) as instance:
        yield instance
