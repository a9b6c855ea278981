"""The notebooks of the docs run from a clean folder, and their outputs are the ones that are stored."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def outputs(path):
    """Of each cell: its text and tables, and how many pictures."""
    found = []
    for cell in json.loads(path.read_text())["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            plain, table = ("".join(data.get(kind, [])) for kind in ("text/plain", "text/html"))
            found.append((cell["id"], output["output_type"], plain, table, "image/png" in data))
    return found


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("executed")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "notebooks.py", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_and_says_what_is_stored(executed, notebook):
    stored = outputs(notebook)

    assert stored == outputs(executed / notebook.name)
    assert "error" not in [kind for _, kind, *_ in stored]
    assert sum(picture for *_, picture in stored) >= 3


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_stored_notebook_names_nothing_of_the_machine_that_ran_it(notebook):
    text = notebook.read_text()
    found = json.loads(text)

    assert len(text) < 250_000
    assert found["metadata"] == {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    assert [cell["metadata"] for cell in found["cells"]] == [{}] * len(found["cells"])
    said = " ".join(plain + table for *_, plain, table, _ in outputs(notebook))
    for place in ("/home/", "/root/", "/tmp/", str(ROOT)):
        assert place not in said
