"""What a newcomer has: the wheel of this tree, and an environment with nothing but what it asks for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")
EXTRAS = "cli,stream,dagster,embedded,serve"
_PACKAGES = ("feature_store", "assets", "checks", "stack", "streams")
_FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")


def build_wheel(out: Path) -> Path:
    """The wheel of this tree, built from a copy: building leaves files behind."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        for package in _PACKAGES:
            shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
        for file in _FILES:
            shutil.copy(ROOT / file, tree)
        python = ["--no-build-isolation", "--python", sys.executable]
        subprocess.run([UV, "build", "--quiet", "--wheel", *python, "--out-dir", out, tree], check=True)
    [built] = out.glob("*.whl")
    return built


def install(bare: Path, *packages: str, python: Path | str = sys.executable) -> None:
    """Make an environment of a Python and install packages in the versions that are pinned here, as far as they are."""
    lines = (ROOT / "requirements" / "dev.txt").read_text().splitlines()
    pins = bare.with_suffix(".pins")
    pins.write_text("\n".join(line.rstrip(" \\") for line in lines if "==" in line and not line.startswith(" ")))
    subprocess.run([UV, "venv", "--quiet", "--python", python, bare], check=True)
    there = ["--python", bare / "bin" / "python", "--constraint", pins]
    subprocess.run([UV, "pip", "install", "--quiet", *there, *packages], check=True)
