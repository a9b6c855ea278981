"""`config`: the settings in force and where each comes from."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from feature_store.cli.looks import plain_table
from feature_store.configured import configured, unknown_variables
from feature_store.settings import Settings, settings_file


def config() -> None:
    """Print every setting with where it comes from: a variable, the file, or the default. Passwords are masked."""
    table = plain_table("setting", "value", "from")
    for each in configured(Settings()):
        style = "dim" if each.origin == "default" else None
        table.add_row(each.name, each.shown, each.origin, style=style)
    console = Console(highlight=False)
    console.print(table, markup=False)
    if settings_file() is None:
        console.print("no feature_store.toml in this folder", soft_wrap=True)
    for name, near in unknown_variables(os.environ).items():
        sys.stderr.write(f"warning: {name} is not known{f'; did you mean `{near}`?' if near else ''}\n")
