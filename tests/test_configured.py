"""Settings from a file beside the environment, and what `config` and `doctor` say of them."""

import re
from pathlib import Path

import pytest
from feature_store_deploy.stack.init import write_project

from feature_store.cli.app import run
from feature_store.configured import configured, unknown_variables
from feature_store.errors import SettingsError
from feature_store.settings import CONFIG, FILE, PREFIX, Settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no setting in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)
    monkeypatch.delenv(CONFIG, raising=False)
    return tmp_path


def origins() -> dict[str, tuple[str, str]]:
    return {each.name: (each.shown, each.origin) for each in configured(Settings())}


def test_a_variable_beats_the_file_and_the_file_the_default(folder, monkeypatch):
    (folder / FILE).write_text('environment = "staging"\nworkers = 2\n')
    monkeypatch.setenv(f"{PREFIX}WORKERS", "3")

    settings = Settings()

    assert (settings.environment, settings.workers, settings.api_port) == ("staging", 3, 8700)
    assert Settings(environment="prod").environment == "prod"
    found = origins()
    assert found["environment"] == ("staging", FILE)
    assert found["workers"] == ("3", f"{PREFIX}WORKERS")
    assert found["api_port"] == ("8700", "default")
    assert list(found) == list(Settings.model_fields)


def test_a_project_that_init_writes_names_its_declarations_as_what_the_api_runs(folder, monkeypatch):
    write_project("shop", folder / "shop")
    monkeypatch.chdir(folder / "shop")

    assert Settings().functions == Settings().declarations == "features:registry"


def test_another_file_is_named_by_a_variable(folder, monkeypatch):
    (folder / FILE).write_text('environment = "staging"\n')
    (folder / "prod.toml").write_text('environment = "prod"\n')
    monkeypatch.setenv(CONFIG, str(folder / "prod.toml"))

    assert origins()["environment"] == ("prod", str(folder / "prod.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers = 0\n", rf"setting `workers` \({FILE}\): .*greater than or equal to 1"),
        ("worker = 2\n", rf"setting `worker` \({FILE}\) is not known; did you mean `workers`\?"),
        ("workers 2\n", rf"{FILE} is no TOML: .*line 1"),
        ("[redis]\nurl = 1\n", rf"setting `redis` \({FILE}\) is not known"),
        ('environment = ["dev"]\n', rf"setting `environment` \({FILE}\): .*valid string"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line_that_names_it(folder, text, message):
    (folder / FILE).write_text(text)

    with pytest.raises(SettingsError, match=message) as caught:
        Settings()

    assert "\n" not in str(caught.value)


def test_a_file_that_is_named_and_missing_is_an_error(folder, monkeypatch):
    monkeypatch.setenv(CONFIG, str(folder / "nowhere.toml"))

    with pytest.raises(SettingsError, match=rf"{CONFIG} names a file that cannot be read: .*nowhere.toml"):
        Settings()


def test_secrets_are_masked(monkeypatch):
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", "rediss://me:s3cret@redis:6379/0?ssl_certfile=x&password=s3cret")
    monkeypatch.setenv(f"{PREFIX}LAKE_CATALOG", "postgres://me:s3cret@db/lake")
    monkeypatch.setenv(f"{PREFIX}ALERT_WEBHOOK_URL", "https://hooks.example/services/s3cret")

    found = origins()

    assert found["redis_url"][0] == "rediss://me:***@redis:6379/0?***"
    assert found["lake_catalog"][0] == "postgres://me:***@db/lake"
    assert found["alert_webhook_url"][0] == "https://hooks.example/***"


def test_variables_that_are_no_settings_are_found_with_what_was_meant():
    environment = {f"{PREFIX}REDIS": "x", f"{PREFIX}WORKERS": "1", CONFIG: "x", "HOME": "/"}

    assert unknown_variables(environment) == {f"{PREFIX}REDIS": f"{PREFIX}REDIS_URL"}


def test_config_prints_every_setting_with_its_origin(folder, monkeypatch, capsys):
    (folder / FILE).write_text('environment = "staging"\n')
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", "redis://:s3cret@127.0.0.1:6391/0")
    monkeypatch.setenv(f"{PREFIX}REDIS", "oops")

    assert run(["config"]) == 0

    said = capsys.readouterr()
    rows = dict(re.findall(r"^ ?(\w+) +(.*?) *$", said.out, re.MULTILINE))
    assert re.fullmatch(rf"staging +{FILE}", rows["environment"])
    assert "s3cret" not in said.out
    assert set(Settings.model_fields) <= set(rows)
    assert f"{PREFIX}REDIS is not known; did you mean `{PREFIX}REDIS_URL`?" in said.err


def test_an_address_for_alerts_that_is_none_is_refused_without_being_told():
    with pytest.raises(SettingsError, match=r"`alert_webhook_url` .*must be an http:// or https:// address") as caught:
        Settings(alert_webhook_url="hooks.example/s3cret")

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "/", "docs and more"])
def test_runbooks_are_at_an_address_or_a_path(value):
    with pytest.raises(SettingsError, match=r"`runbook_url` .*must be an address or a path"):
        Settings(runbook_url=value)

    assert Settings(runbook_url="https://wiki.example/runbooks/").runbook_url == "https://wiki.example/runbooks"
