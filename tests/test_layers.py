"""Imports go down only, and what a model service imports stays light."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HEAVY = {
    "numpy",
    "pandas",
    "pyarrow",
    "duckdb",
    "pandera",
    "pydantic",
    "dagster",
    "bytewax",
    "evidently",
    "typer",
    "rich",
    "sklearn",
}


def imported_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `statement`."""
    script = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    return set(done.stdout.split())


def test_imports_between_the_layers_go_down_only():
    lint_imports = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run([lint_imports, "--no-cache"], check=False, capture_output=True, text=True, cwd=ROOT)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["feature_store", "feature_store.reader"])
def test_what_a_model_service_imports_loads_nothing_heavy(module):
    assert imported_by(f"import {module}") & HEAVY == set()


def test_a_command_that_only_starts_a_program_loads_nothing_that_the_program_loads_again():
    started = imported_by("from feature_store.cli import launch; assert launch.starts(['up'])")

    assert started & (HEAVY | {"redis"}) <= {"typer", "rich"}


@pytest.mark.parametrize("package", ["feature_store", "features", "streams", "assets", "checks", "stack", "demo"])
def test_every_folder_of_code_is_a_package_because_the_layers_are_checked_in_packages_only(package):
    folders = {module.parent for module in (ROOT / package).rglob("*.py") if "template" not in module.parts}

    assert [folder.name for folder in folders if not (folder / "__init__.py").exists()] == []
