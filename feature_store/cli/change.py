"""`export` and `plan`: declarations compared with what another environment serves, from a file, without credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from feature_store.changes import FOLDER, exported_environments, exported_file, meanings, read_meanings
from feature_store.changing.planned import planned
from feature_store.cli.looks import counted
from feature_store.cli.plan_shown import markdown, show
from feature_store.errors import InputError
from feature_store.registry import load_registry
from feature_store.settings import ENVIRONMENT_RULE, Settings, is_environment_name
from feature_store.store import FeatureStore

BREAKING = 3
"""The exit code of `plan` when a change is breaking."""


def export(
    *,
    environment: Annotated[
        str | None,
        typer.Option(help=f"Write it to {FOLDER}/NAME.json, where `plan --against NAME` finds it", metavar="NAME"),
    ] = None,
) -> None:
    """Print what the declared features and services mean, as JSON: keep it, and `plan` compares with it."""
    text = meanings(load_registry(Settings().declarations)).to_json()
    if environment is None:
        typer.echo(text, nl=False)
        return
    if not is_environment_name(environment):
        raise InputError(f"`--environment` {ENVIRONMENT_RULE}, got '{environment}'")
    path = exported_file(environment)
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: {error.strerror}") from error
    typer.echo(f"{path}: commit it, and `feature-store plan --against {environment}` compares with it")


def retire(
    name: Annotated[str, typer.Argument(help="`name@version`, declared no more", metavar="NAME@VERSION")],
    *,
    service: Annotated[bool, typer.Option("--service", help="It is a service, not a view")] = False,
) -> None:
    """Give back what a view takes up in lake and Redis, or take a service from the readers. Refused while it is in use."""
    with FeatureStore() as store:
        done = store.retire(name, service=service)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{done.what} is retired")
    if not service:
        tables = ", ".join(done.tables) or "no table"
        console.print(f"lake: {tables} dropped, the files go with the snapshots that read them")
        console.print(f"Redis: {counted(done.values, 'value')} deleted")


def plan(
    *,
    against: Annotated[
        str | None,
        typer.Option(
            help=f"An environment that was exported to {FOLDER}/NAME.json, or a file; by default what is applied here",
            metavar="NAME|FILE",
        ),
    ] = None,
    format: Annotated[str, typer.Option(help="text, markdown for pull requests, or json")] = "text",  # noqa: A002
) -> None:
    """Show what the declarations of this folder would change, and what that takes. Exit code 3 if a change is breaking."""
    if format not in ("text", "markdown", "json"):
        raise InputError(f"`--format` must be 'text', 'markdown' or 'json', got '{format}'")
    if against is None:
        with FeatureStore() as store:
            found = store.plan()
    else:
        registry = load_registry(Settings().declarations)
        found = planned(read_meanings(_exported(against)), meanings(registry), readers=registry.readers)
    if format == "json":
        typer.echo(found.to_json())
    elif format == "markdown":
        typer.echo(markdown(found))
    else:
        show(found)
    if found.is_breaking:
        raise typer.Exit(BREAKING)


def _exported(against: str) -> Path:
    """The file of an environment; what cannot name one is a path."""
    if not is_environment_name(against):
        return Path(against)
    path = exported_file(against)
    if not path.exists():
        known = ", ".join(exported_environments()) or "none"
        raise InputError(
            f"nothing was exported for environment '{against}' (known: {known}); "
            f"`feature-store export --environment {against}` writes '{path}' for what is declared where you give it"
        )
    return path
