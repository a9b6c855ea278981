"""Images and compose files are about what the Procfile runs and what settings there are. There is no Docker here: what is
run of them are the commands (`test_stack`, `test_healthy`), what is not run is linted and compared.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from feature_store_deploy.stack import healthy
from feature_store_deploy.stack.dagster import command
from feature_store_deploy.stack.procfile import read_procfile

from feature_store.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
TEMPLATE = ROOT / "stack" / "template"
DOCKERFILES = [ROOT / "Dockerfile", TEMPLATE / "Dockerfile"]
PROVIDED = {"valkey", "prometheus", "grafana"}
"""Services with images of others."""


def composed(folder):
    """The services of a folder, as Docker Compose merges its two files, as far as we use that."""
    whole = yaml.safe_load((folder / "compose.yaml").read_text())
    over = folder / "compose.override.yaml"
    services = whole["services"]
    for name, service in (yaml.safe_load(over.read_text())["services"] if over.exists() else {}).items():
        services[name] = services.get(name, {}) | service
    return whole | {"services": services}


WHOLE = composed(ROOT)
OURS = {name: service for name, service in WHOLE["services"].items() if name not in PROVIDED}


def line_of(service):
    """The command of a service as a line of a Procfile has it."""
    given = service["command"]
    return given if isinstance(given, str) else given[2] if given[:2] == ["sh", "-c"] else shlex.join(given)


@pytest.mark.parametrize("folder", [ROOT, TEMPLATE], ids=["here", "in a new project"])
def test_every_process_of_the_procfile_is_a_service_with_the_same_command(folder):
    procfile = read_procfile(folder / "Procfile")
    services = composed(folder)["services"]
    lines = {name: line_of(service) for name, service in services.items() if name not in PROVIDED}

    processes = {name: line for name, line in procfile.processes.items() if name not in PROVIDED}
    assert lines == processes | {"release": procfile.release}
    assert set(services) >= PROVIDED


def test_every_variable_of_a_service_is_a_setting_with_a_value_that_it_takes(monkeypatch):
    for service in OURS.values():
        for name, value in service["environment"].items():
            assert name.removeprefix(PREFIX).lower() in Settings.model_fields, name
            if value is not None:
                monkeypatch.setenv(name, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)))
    settings = Settings()

    assert settings.environment == "prod"
    of_the_shell = {name for name, value in OURS["daemon"]["environment"].items() if value is None}
    assert of_the_shell == {f"{PREFIX}{name}" for name in ("ALERT_WEBHOOK_URL", "OWNER", "RUNBOOK_URL", "UI_URL")}


def test_what_prometheus_asks_is_where_the_services_answer():
    ports = {name: OURS["api"]["environment"].get(f"{PREFIX}{setting}", default) for name, setting, default in (
        ("api", "API_PORT", 8700), ("exporter", "METRICS_PORT", None), ("flow", "FLOW_METRICS_PORT", None),
        ("archive", "ARCHIVE_METRICS_PORT", None))}  # fmt: skip
    jobs = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]

    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    assert targets == {name: [f"{name}:{port}"] for name, port in ports.items()}


def test_nothing_is_published_to_other_machines():
    published = [port for service in WHOLE["services"].values() for port in service.get("ports", ())]

    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []
    assert "ports" not in WHOLE["services"]["valkey"]


def test_volumes_secrets_files_and_services_that_are_named_are_there():
    services = WHOLE["services"]
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in WHOLE["volumes"], volume
        assert set(service.get("depends_on", ())) <= set(services)
        assert set(service.get("secrets", ())) <= set(WHOLE["secrets"])
    assert all(service["build"] == "." for service in OURS.values())
    assert len({service["image"] for service in OURS.values()}) == 1


@pytest.mark.parametrize("name", sorted(set(OURS) - {"release", "replay"}))
def test_every_service_of_ours_has_a_health_check_of_its_own(name):
    assert OURS[name]["healthcheck"]["test"] == [
        "CMD", "python", "-m", "feature_store_deploy.stack.healthy", name
    ]  # fmt: skip
    assert name in healthy.CHECKS


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=["here", "in a new project"])
def test_an_image_is_small_nobody_is_root_in_it_and_it_says_whether_it_is_well(dockerfile):
    linted = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--failure-threshold", "info", dockerfile],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = dockerfile.read_text().splitlines()
    last = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM")) :]

    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert sum(line.startswith("FROM") for line in lines) == 2
    assert [line for line in last if "pip" in line or "apt" in line] == []
    [user] = [line for line in lines if line.startswith("USER")]
    assert re.fullmatch(r"USER [1-9]\d+", user)
    assert any(line.startswith("HEALTHCHECK") and "stack.healthy" in line for line in last)
    exposed = next(line for line in lines if line.startswith("EXPOSE")).split()[1:]
    environment = OURS["api"]["environment"]
    assert {
        "3000",
        "8700",
        *(str(value) for name, value in environment.items() if name.endswith("METRICS_PORT")),
    } == set(exposed)


def test_the_image_of_a_new_project_differs_from_ours_only_in_what_it_copies():
    def last_stage(dockerfile):
        text = dockerfile.read_text()
        lines = text[text.rindex("\nFROM ") :].splitlines()
        return [line for line in lines if not line.startswith("COPY") or "--from" in line]

    ours, theirs = map(last_stage, DOCKERFILES)
    assert ours == theirs
    assert ours


def test_what_the_image_copies_is_there_and_not_ignored():
    copied = [
        source
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert set(copied) == kept
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_web_ui_listens_to_others_only_if_a_setting_says_so():
    def host(**settings):
        line = command("webserver", Settings(**settings))
        return line[line.index("-h") + 1]

    assert host() == "127.0.0.1"
    assert host(ui_host="0.0.0.0") == "0.0.0.0"
