"""All commands in one application, and how errors reach the user."""

from __future__ import annotations

import click
import typer
from redis.exceptions import RedisError
from rich.console import Console

from feature_store.cli import history, launch, live, overview
from feature_store.errors import FeatureStoreError

app = typer.Typer(
    name="feature-store",
    help="A real-time feature store: one declaration, two paths, the same numbers. Settings: FEATURE_STORE_* variables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    launch.demo,
    launch.up,
    overview.apply,
    history.materialize,
    launch.backfill,
    launch.stream,
    live.publish,
    live.get,
    history.training_set,
    overview.status,
):
    app.command()(command)


def run() -> int:
    """Run the command that the arguments name; returns the exit code: 2 for wrong input or a part that is away."""
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except FeatureStoreError as error:
        return _fail(str(error))
    except RedisError as error:
        return _fail(f"Redis does not answer: {error}; is it running? (`make up` starts the embedded one)")
    return code if isinstance(code, int) else 0


def _fail(message: str) -> int:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {message}", markup=False)
    return 2
