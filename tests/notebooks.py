"""Executes the notebooks of the docs, each in a clean folder beside the files of the payments example.

`python tests/notebooks.py` writes their outputs anew into `docs/notebooks/`; a test does the same elsewhere and compares.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "docs" / "notebooks"
EXAMPLE = ROOT / "examples" / "payments"


def execute(notebook: Path, to: Path) -> None:
    """Run every cell anew; nothing of this machine, such as times and versions, goes into the outputs."""
    found = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("generator.py", "payments.py"):
            shutil.copy(EXAMPLE / file, folder)
        # A kernel of its own: no history, no profile, no settings of whoever runs this.
        os.environ |= {"IPYTHONDIR": str(folder / ".ipython"), "JUPYTER_RUNTIME_DIR": str(folder / ".jupyter")}
        client = NotebookClient(
            found, timeout=300, kernel_name="python3", resources={"metadata": {"path": name}}, record_timing=False
        )
        client.execute()
    found.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    to.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(found, to)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else NOTEBOOKS
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        execute(notebook, target / notebook.name)
