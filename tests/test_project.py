"""A team that has never seen the repository: the wheel, a bare environment, a project of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
import yaml
from feature_store_deploy.stack.init import write_project

from benchmarks.bare import EXTRAS, UV, install
from feature_store.embedded import EmbeddedValkey
from feature_store.errors import InputError
from feature_store.settings import PREFIX

VIEW = """
spending_by_day = FeatureView(
    "spending_by_day",
    entity=customer,
    source=payments,
    features=[agg.sum("amount", over="1d")],
)
"""


def test_the_wheel_has_the_proto_of_the_grpc_api_with_messages_stub_and_types(wheel):
    names = ("features.proto", "features_pb2.py", "features_pb2.pyi", "features_pb2_grpc.py")

    assert {f"feature_store/serving/grpc/v1/{name}" for name in names} <= set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_and_a_new_project_have_the_runbooks_where_alerts_look_for_them(wheel, tmp_path):
    pages = {page.name for page in Path(__file__).parent.parent.glob("docs/runbooks/*.md")}
    packed = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if "/template/docs/runbooks/" in name}

    written = write_project("fraud", tmp_path / "fraud")

    found = [path for path in written if path.parent == Path("docs/runbooks")]
    assert packed == {path.name for path in found} == pages
    texts = [(tmp_path / "fraud" / path).read_text() for path in [*found, Path("README.md")]]
    links = {link for text in texts for link in re.findall(r"\]\(([^)#]+)", text)}
    assert {link for link in links if link not in pages} == set()  # what leads out of a project is plain text


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
                process.wait(120)


def lend_bytecode(bare: Path) -> None:
    """Give an environment what this one has compiled; Python takes it where size and time of the source are the same."""
    site = Path("lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")
    for folder, _, files in os.walk(Path(sys.prefix) / site):
        target = bare / site / Path(folder).relative_to(Path(sys.prefix) / site)
        if target.name == "__pycache__" and target.parent.is_dir():
            target.mkdir(exist_ok=True)
            for file in files:
                shutil.copy2(Path(folder, file), target)


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel and the pinned packages that it asks for."""
    bare = tmp_path_factory.mktemp("bare") / "bare"
    install(bare, f"{wheel}[{EXTRAS}]", "pytest", f"setuptools=={metadata.version('setuptools')}")
    lend_bytecode(bare)
    pip = bare / "bin" / "pip"
    pip.write_text(f'#!/bin/sh\nexec {UV} pip "$@" --quiet --python {bare}/bin/python --no-build-isolation\n')
    pip.chmod(0o755)
    return bare / "bin"


@pytest.fixture
def project(programs: Path, tmp_path: Path, valkey: EmbeddedValkey, environment: str) -> Project:
    """The project that `init` writes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", PREFIX))}
    variables = {
        **kept,
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "PYTHONDONTWRITEBYTECODE": "",
        f"{PREFIX}REDIS_URL": valkey.url,
        f"{PREFIX}ENVIRONMENT": environment,
    }
    made = Project(tmp_path, programs, variables)
    assert "fraud-features/features/payments.py" in made.run("feature-store", "init", "fraud-features")
    return Project(tmp_path / "fraud-features", programs, variables)


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
    text = declarations.read_text().replace("\nfraud = ", f"{VIEW}\nfraud = ")
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
        deadline = time.monotonic() + 120
        while served(said := project.run("feature-store", "get", "fraud", "customer=ada")) != ["12.5", "PRESENT"]:
            assert time.monotonic() < deadline, said + (project.folder / "running.log").read_text()
            time.sleep(0.5)


def served(said: str) -> list[str]:
    """Value and status of one feature."""
    [line] = [line for line in said.splitlines() if "spending_by_day:amount_sum_1d" in line]
    return line.split()[1:3]


@dataclass(frozen=True)
class Workflow:
    """The project's CI workflow, each command run as the runner would: `bash -e`, with `pipefail` where bash is named."""

    project: Project
    summary: Path

    def run(self, job: str) -> None:
        """Run the commands of a job; what fails says so."""
        for step in self.steps(job):
            done = self.do(step)
            assert done.returncode == 0, done.stdout + done.stderr

    def steps(self, job: str) -> list[dict[str, str]]:
        described = yaml.safe_load((self.project.folder / ".github" / "workflows" / "ci.yml").read_text())
        return [step for step in described["jobs"][job]["steps"] if "run" in step]

    def do(self, step: dict[str, str]) -> subprocess.CompletedProcess[str]:
        options = ["-e", "-o", "pipefail"] if step.get("shell") == "bash" else ["-e"]
        return subprocess.run(
            ["bash", *options, "-c", step["run"]], cwd=self.project.folder, capture_output=True, text=True, check=False,
            env=self.project.environment | {"GITHUB_STEP_SUMMARY": str(self.summary)},
        )  # fmt: skip


@pytest.mark.timeout(300)
def test_the_workflow_tests_deploys_and_says_what_a_pull_request_would_change(project: Project, tmp_path: Path) -> None:
    workflow, origin = Workflow(project, tmp_path / "summary.md"), tmp_path / "origin.git"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@localhost"]
    subprocess.run([*git, "init", "--quiet", "--bare", "--initial-branch=main", origin], check=True)
    for command in (
        ["init", "--quiet", "--initial-branch=main"], ["add", "."], ["commit", "--quiet", "-m", "new"],
        ["remote", "add", "origin", str(origin)], ["push", "--quiet", "-u", "origin", "main"],
    ):  # fmt: skip
        subprocess.run([*git, *command], cwd=project.folder, check=True)
    *tests, plan = workflow.steps("test")
    for step in tests:
        done = workflow.do(step)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "known: none" in workflow.do(plan).stderr  # its condition asks for the file

    workflow.run("deploy")

    served = ["git", "--git-dir", origin, "show", "main:environments/prod.json"]
    assert "spending@1:count_1h" in subprocess.run(served, check=True, capture_output=True, text=True).stdout
    workflow.run("deploy")  # nothing is new, nothing is committed
    changed = ["git", "status", "--porcelain", "--branch"]
    assert subprocess.run(changed, cwd=project.folder, check=True, capture_output=True, text=True).stdout == (
        "## main...origin/main\n"
    )

    declarations = project.folder / "features" / "payments.py"
    text = declarations.read_text()
    declarations.write_text(
        text.replace("\nfraud = ", f"{VIEW}\nfraud = ").replace("views=[spending]", "views=[spending, spending_by_day]")
    )
    assert workflow.do(plan).returncode == 0
    assert "1 created; 0 breaking" in workflow.summary.read_text()
    declarations.write_text(text.replace('"amount", over="7d"', '"amount", over="14d"'))
    done = workflow.do(plan)
    assert done.returncode == 3
    assert "| retired, **breaking** | `feature spending@1:amount_mean_7d` | service fraud@1 reads it |" in done.stdout
    assert workflow.summary.read_text().endswith(done.stdout)


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
