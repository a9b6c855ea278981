"""How a command ends: its exit code, and the one line that says what was wrong."""

from __future__ import annotations

import sys

import typer

from feature_store.errors import FeatureStoreError

NAME = "feature-store"

# Typer has come with a copy of click of its own since 0.2x, so its base of usage errors is reached through a public one.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]


def outcome(app: typer.Typer, given: list[str]) -> int:
    """Run a command of an application; returns the exit code, 2 for wrong input.

    Args:
        app: has the command.
        given: the command and its arguments; none at all ask for help.
    """
    try:
        code = app(given or ["--help"], prog_name=NAME, standalone_mode=False)
    except _UsageError as error:
        return fail(f"{_said(error)}; see `{NAME} --help`")
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except FeatureStoreError as error:
        return fail(str(error))
    return code if isinstance(code, int) else 0


def fail(message: str) -> int:
    """Say what was wrong; returns the exit code for it."""
    sys.stdout.flush()
    sys.stderr.write(f"error: {message}\n")
    return 2


def _said(error: Exception) -> str:
    said = error.format_message() if hasattr(error, "format_message") else str(error)
    return " ".join(str(said).split()).rstrip(".?")
