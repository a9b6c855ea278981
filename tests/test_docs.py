"""The documents are true: their Python runs, their links lead somewhere, the docstrings' examples hold."""

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import feature_store
from feature_store.cli.app import app
from feature_store.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^```(\S*)")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")
MODULES = sorted(module.name for module in pkgutil.walk_packages(feature_store.__path__, "feature_store."))


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def python_of(page: Path) -> str:
    """The page's ```python blocks as one script; all other lines are blank, so line numbers are the page's."""
    lines, fence = [], None
    for line in page.read_text().splitlines():
        match = FENCE.match(line)
        lines.append(line if fence == "python" and not match else "")
        if match:
            fence = match[1] if fence is None else None
    return "\n".join(lines)


@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page).strip()], ids=page_name)
def test_the_python_of_a_page_runs_as_it_stands(page, valkey, tmp_path):
    script = tmp_path / page.with_suffix(".py").name
    script.write_text(python_of(page))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "FEATURE_STORE_REDIS_URL": valkey.url}

    done = subprocess.run(
        [sys.executable, script], check=False, capture_output=True, text=True, cwd=tmp_path, env=environment
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_the_links_of_a_page_lead_to_files_that_exist(page):
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]

    assert missing == []


COMMANDS = [
    (page, command)
    for page in sorted(ROOT.glob("docs/runbooks/*.md"))
    for command in re.findall(r"`feature-store ([^`]+)`", page.read_text())
]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page.stem}: {said}" for page, said in COMMANDS])
def test_a_command_of_a_runbook_is_one_that_the_program_takes(page, command):
    del page
    given = re.sub(r"\bDAY\b", "2026-01-01", command).split()
    taken = typer.main.get_command(app)
    while hasattr(taken, "commands") and given:
        assert given[0] in taken.commands
        taken = taken.commands[given.pop(0)]

    if given:  # else the page only names it
        taken.make_context(command, given)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_table_of_settings_names_each_with_its_default():
    page = (ROOT / "docs/operating.md").read_text()
    told = dict(re.findall(rf"^\| `{PREFIX}([A-Z_]+)` \| ([^|]*) \|", page, re.MULTILINE))

    declared = {name.upper(): field.default for name, field in Settings.model_fields.items()}
    assert told.keys() == declared.keys()
    for name, default in declared.items():
        if default is None:  # what stands in its place is told in words
            assert not re.search(r"[`\d]", told[name].replace("`API_HOST` and `API_PORT`", "")), name
        elif isinstance(default, int | float) and not isinstance(default, bool):
            assert float(told[name]) == default, name
        else:
            assert told[name].strip("`") == str(default).lower(), name


def test_the_table_of_commands_names_each():
    page = (ROOT / "docs/operating.md").read_text()
    listed = re.findall(r"^\| `feature-store ([a-z-]+)", page, re.MULTILINE)

    assert set(listed) == set(typer.main.get_command(app).commands)
