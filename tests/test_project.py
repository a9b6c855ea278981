"""A team that has never seen the repository: the wheel, a bare environment, a project of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from feature_store_deploy.stack.init import write_project

from feature_store.embedded import EmbeddedValkey
from feature_store.errors import InputError
from feature_store.settings import PREFIX

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")
EXTRAS = "cli,stream,dagster,embedded"
VIEW = """
spending_by_day = FeatureView(
    "spending_by_day",
    entity=customer,
    source=payments,
    features=[agg.sum("amount", over="1d")],
)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built beside it: building leaves files behind."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for folder in ("feature_store", "assets", "checks", "stack", "streams"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tree)
    build = [
        UV,
        "build",
        "--quiet",
        "--wheel",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "--out-dir",
        out,
        tree,
    ]
    subprocess.run(build, check=True)
    [built] = out.glob("*.whl")
    return built


@dataclass(frozen=True)
class Project:
    """A folder with a project, and the programs of a bare environment."""

    folder: Path
    programs: Path
    environment: dict[str, str]

    def run(self, *command: str, given: str | None = None) -> str:
        """What a program says; it must end well."""
        done = subprocess.run(
            [self.programs / command[0], *command[1:]],
            cwd=self.folder, env=self.environment, input=given, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, *command: str) -> Iterator[None]:
        """A program beside the body."""
        with (self.folder / "running.log").open("a") as log:
            process = subprocess.Popen(
                [self.programs / command[0], *command[1:]],
                cwd=self.folder, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                yield
            finally:
                process.terminate()
                process.wait(30)


@pytest.fixture
def project(wheel: Path, tmp_path: Path, valkey: EmbeddedValkey, environment: str) -> Project:
    """The project that `init` writes, beside an environment that has the wheel and the pinned packages it asks for."""
    bare, pins = tmp_path / "bare", tmp_path / "pins.txt"
    lines = (ROOT / "requirements" / "dev.txt").read_text().splitlines()
    pins.write_text("\n".join(line.rstrip(" \\") for line in lines if "==" in line and not line.startswith(" ")))
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, bare], check=True)
    install = [UV, "pip", "install", "--quiet", "--python", bare / "bin" / "python", "--constraint", pins]
    subprocess.run([*install, f"{wheel}[{EXTRAS}]", "pytest"], check=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", PREFIX))}
    variables = {
        **kept,
        "PYTHONDONTWRITEBYTECODE": "",
        f"{PREFIX}REDIS_URL": valkey.url,
        f"{PREFIX}ENVIRONMENT": environment,
    }
    made = Project(tmp_path, bare / "bin", variables)
    assert "fraud-features/features/payments.py" in made.run("feature-store", "init", "fraud-features")
    return Project(tmp_path / "fraud-features", bare / "bin", variables)


def test_generic_names_stay_out_of_site_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {
        "feature_store",
        "feature_store_deploy",
    }
    assert "feature_store_deploy/stack/template/.github/workflows/ci.yml" in names


@pytest.mark.timeout(600)
def test_a_project_of_ones_own_from_an_empty_folder_to_a_served_vector(project: Project) -> None:
    assert "1 passed" in project.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider")

    declarations = project.folder / "features" / "payments.py"
    text = declarations.read_text().replace("\nregistry = ", f"{VIEW}\nregistry = ")
    declarations.write_text(text.replace("=[spending]", "=[spending, spending_by_day]"))
    assert "2 views and 1 service applied; new: 5 features" in project.run("feature-store", "apply")

    said = project.run("feature-store", "backfill", "--start", "2026-01-01", "--end", "2026-01-04")
    assert "9 partitions in" in said

    asked = pd.DataFrame({"customer": ["ada"], "event_timestamp": pd.to_datetime(["2026-01-01T12:00:00Z"])})
    asked.to_parquet(project.folder / "spine.parquet")
    project.run("feature-store", "training-set", "fraud", "--spine", "spine.parquet", "--out", "rows.parquet")
    [row] = pd.read_parquet(project.folder / "rows.parquet").to_dict("records")
    assert (row["spending__count_7d"], row["spending_by_day__amount_sum_1d"]) == (2, 30.0)

    paid_at = datetime.now(UTC) - timedelta(seconds=30)
    event = {"payment_id": "p9", "customer": "ada", "amount": 12.5, "paid_at": paid_at.isoformat()}
    with project.running("feature-store", "stream"), project.running("feature-store", "stream", "--archive"):
        project.run("feature-store", "publish", "payments", "-", given=json.dumps(event) + "\n")
        deadline = time.monotonic() + 60
        while "PRESENT" not in (said := project.run("feature-store", "get", "fraud", "customer=ada")):
            assert time.monotonic() < deadline, said + (project.folder / "running.log").read_text()
            time.sleep(0.5)
    [line] = [line for line in said.splitlines() if "spending_by_day:amount_sum_1d" in line]
    assert line.split()[1:3] == ["12.5", "PRESENT"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(InputError, match="is not empty; nothing was written"):
        write_project("shop", tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", ["Shop", "my shop", "", "-x", "../x"])
def test_a_name_that_cannot_name_a_project_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a project's name must be lower-case words"):
        write_project(name, tmp_path / "new")

    assert list(tmp_path.iterdir()) == []
