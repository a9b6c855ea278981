"""Which processes the stack runs: the lines `name: command` of the Procfile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from feature_store.errors import InputError

RELEASE = "release"
"""The line that is run once, with Redis up and before all others; as in other systems that read Procfiles."""
_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(\S.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Procfile:
    """What to run."""

    release: str | None
    processes: Mapping[str, str]
    """Name -> command, for a shell."""

    def has(self, module: str) -> bool:
        """Whether some process is this module of the stack."""
        return any(re.search(rf"-m {re.escape(module)}\b", command) for command in self.processes.values())


def read_procfile(path: Path) -> Procfile:
    """Read a Procfile.

    Raises:
        InputError: it cannot be read, a line is neither `name: command` nor a comment, or a name stands twice.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise InputError(
            f"{path.absolute()} cannot be read ({error.strerror}); start the stack in the folder with the Procfile"
        ) from error
    commands: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.rstrip())
        if found is None:
            raise InputError(f"{path}, line {number}: must be `name: command`, got '{line}'")
        if found[1] in commands:
            raise InputError(f"{path}, line {number}: process '{found[1]}' stands twice")
        commands[found[1]] = found[2]
    release = commands.pop(RELEASE, None)
    if not commands:
        raise InputError(f"{path} names no process")
    return Procfile(release=release, processes=commands)
