"""`feature-store init`: a small project of one's own, with everything that a deployment needs."""

from __future__ import annotations

import argparse
import re
import sys
from importlib import metadata
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from feature_store.errors import FeatureStoreError, InputError

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_ELSEWHERE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")
"""A link of a runbook to another page of our documentation, which a project does not have."""


def write_project(name: str, folder: Path) -> list[Path]:
    """Write a project into a folder that is empty or is not there yet; returns the files, relative to it.

    Raises:
        InputError: the name cannot name a project, or the folder holds something.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"a project's name must be lower-case words joined by '-' or '_', got '{name}'")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"folder '{folder}' is not empty; nothing was written")
        values = {"name": name, "version": metadata.version("feature-store")}
        return sorted(_write(files("feature_store_deploy.stack") / "template", folder, Path(), values))
    except OSError as error:
        raise InputError(f"folder '{folder}' cannot be written: {error.strerror}") from error


def _write(source: Traversable, folder: Path, below: Path, values: dict[str, str]) -> list[Path]:
    written: list[Path] = []
    (folder / below).mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        path = below / entry.name.removesuffix(".in")
        if entry.is_dir():
            written += [] if entry.name == "__pycache__" else _write(entry, folder, path, values)
            continue
        text = entry.read_text(encoding="utf-8")
        for key, value in values.items():
            text = text.replace("{{" + key + "}}", value)
        if path.suffix == ".md":
            text = _ELSEWHERE.sub(r"\1", text)
        (folder / path).write_text(text, encoding="utf-8")
        written.append(path)
    return written


def main() -> int:
    """Write what the command line names; exit code 2 with one clear line if it cannot."""
    parser = argparse.ArgumentParser(prog="feature-store init")
    parser.add_argument("name")
    options = parser.parse_args()
    try:
        folder = Path(options.name)
        for path in write_project(options.name, folder):
            sys.stdout.write(f"{folder / path}\n")
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"\nNext: cd {folder}, read README.md\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
