"""All commands in one application."""

from __future__ import annotations

import sys

import duckdb
import typer
from redis.exceptions import RedisError

from feature_store.cli import (
    acl,
    baseline,
    change,
    config,
    costs,
    dead_letters,
    examined,
    explain,
    history,
    housekeeping,
    keys,
    lake,
    launch,
    live,
    overview,
    rollout,
    serve,
    verify,
)
from feature_store.cli.outcome import NAME, fail, outcome
from feature_store.online.refusal import refusal, worded
from feature_store.settings import FILE, PREFIX

app = typer.Typer(
    name=NAME,
    help=f"A real-time feature store: one declaration, two paths, the same numbers. Settings are {PREFIX}* variables and {FILE}.",
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
    serve.serve,
    acl.acl,
    explain.explain,
    history.training_set,
    baseline.baseline,
    verify.verify,
    overview.statistics,
    housekeeping.housekeeping,
    costs.costs,
    overview.status,
    config.config,
    examined.doctor,
):
    app.command()(command)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(keys.app, name="keys")
app.add_typer(lake.app, name="lake")
app.add_typer(rollout.app, name="rollout")


def run(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 2 for wrong input or a part that is away.

    Args:
        arguments: those of this process by default; none at all ask for help.
    """
    try:
        return outcome(app, sys.argv[1:] if arguments is None else arguments)
    except UnicodeEncodeError as error:
        return fail(f"an argument must be text in UTF-8, got {error.object!r:.80}")
    except duckdb.IOException as error:
        return fail(f"the lake cannot be read: {str(error).splitlines()[0]}")
    except RedisError as error:
        hint = "" if refusal(error) else "; is it running? (`feature-store up` starts the embedded one)"
        return fail(f"{worded(error)}{hint}")
