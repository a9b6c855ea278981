"""All commands in one application, and how errors reach the user."""

from __future__ import annotations

import sys

import duckdb
import typer
from redis.exceptions import RedisError

from feature_store.cli import change, dead_letters, explain, history, lake, launch, live, overview, rollout, verify
from feature_store.errors import FeatureStoreError
from feature_store.settings import PREFIX

app = typer.Typer(
    name="feature-store",
    help=f"A real-time feature store: one declaration, two paths, the same numbers. Settings are {PREFIX}* variables.",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    launch.init,
    launch.demo,
    launch.up,
    change.export,
    change.plan,
    overview.apply,
    change.retire,
    history.materialize,
    launch.backfill,
    launch.check,
    launch.stream,
    live.publish,
    live.resume,
    live.rebuild_online,
    live.get,
    explain.explain,
    history.training_set,
    verify.verify,
    overview.status,
):
    app.command()(command)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(lake.app, name="lake")
app.add_typer(rollout.app, name="rollout")

# Typer has come with a copy of click of its own since 0.2x, so its base of usage errors is reached through a public one.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]


def run(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 2 for wrong input or a part that is away.

    Args:
        arguments: those of this process by default; none at all ask for help.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        code = app(given or ["--help"], prog_name="feature-store", standalone_mode=False)
    except _UsageError as error:
        return _fail(f"{_said(error)}; see `feature-store --help`")
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except FeatureStoreError as error:
        return _fail(str(error))
    except duckdb.IOException as error:
        return _fail(f"the lake cannot be read: {str(error).splitlines()[0]}")
    except RedisError as error:
        return _fail(f"Redis does not answer: {error}; is it running? (`feature-store up` starts the embedded one)")
    return code if isinstance(code, int) else 0


def _said(error: Exception) -> str:
    said = error.format_message() if hasattr(error, "format_message") else str(error)
    return " ".join(str(said).split()).rstrip(".?")


def _fail(message: str) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"error: {message}\n")
    return 2
