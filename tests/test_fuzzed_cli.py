"""Commands with anything in the place of their texts and files: an exit code with a line that says why, never a traceback."""

import contextlib
import io
import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from fuzzing import DEEP, damaged, json_values, noise, tried
from hypothesis import given
from hypothesis import strategies as st

from feature_store import FeatureStore
from feature_store.cli.app import run
from feature_store.online.keys import access_key, applied_key, generation_key, layouts_key, ready_key, services_key
from feature_store.settings import PREFIX

EVENT = {"payment_id": "e1", "customer": "ada", "amount": 5.5, "paid_at": "2026-03-02T09:00:00Z"}
HEADER = "payment_id,customer,amount,paid_at\n"


@pytest.fixture(scope="module")
def shop(valkey, tmp_path_factory, module_environment):
    """A shop with a day of history, in whose folder commands run."""
    folder = tmp_path_factory.mktemp("fuzzed")
    (folder / "payments.csv").write_text(HEADER + "p1,ada,10.0,2026-03-01 09:00:00Z\n")
    pd.DataFrame([EVENT]).to_parquet(folder / "whole.parquet")
    settings = {"HOME": folder / "home", "REDIS_URL": valkey.url, "ENVIRONMENT": module_environment}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**settings, "DECLARATIONS": "shop:registry"}.items():
            patch.setenv(f"{PREFIX}{name}", str(value))
        patch.chdir(folder)
        with FeatureStore() as store:
            store.apply()
            start = datetime(2026, 3, 1, tzinfo=UTC)
            store.load("payments", start=start, end=start + timedelta(days=1))
        yield folder


def said(command):
    """Exit code, output and errors of a command, on streams as a terminal has them."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(command)
    found = []
    for stream in (out, err):
        stream.flush()
        found.append(stream.buffer.getvalue().decode())
    return code, *found


def check(command):
    code, _, err = said(command)
    assert code in (0, 1, 2), command
    assert code != 2 or err.startswith("error: "), (command, err)
    assert "Traceback" not in err, command


ODD = ["", "-", "--", "=", "a=", "=b", "[/red]", "[bold", "\x1b[2J", "\x00", "\udcff", "é\n\r\t", "'; DROP TABLE x; --", '"', "%s{0}",
       "9" * 5_000, "x" * 5_000, "-1", "1e400", "nan", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31", "../../etc/passwd",
       "2026-03-02T09:00:00Z", "2026-03-02", "spending@1", "spending@99999999999999999999", "spending:count_1h", "risk", "risk@1", "payments", "customer=ada",
       "0:1-7", "0:99999999999999999999-1", "\u0661:\u0662-\u0663", "postgres:env:X", "s3://x/y", "99999999999999999d", "1d"]  # fmt: skip
words = st.one_of(st.sampled_from(ODD), st.sampled_from(ODD), st.text(max_size=20))
ANY = object()

CHEAP = [
    ["get", ANY, ANY, "--as-of", ANY],
    ["get", "risk", ANY],
    ["get", "spending:count_1h", "customer=ada", "--as-of", ANY],
    ["get", ANY, "customer=ada"],
    ["retire", ANY],
    ["keys", "create", "x", "--expires", ANY, "--admin"],
    ["materialize", "spending", "--start", ANY, "--end", ANY],
    ["dead-letters", "list", "--kind", ANY],
    ["dead-letters", "show", ANY, ANY],
    [ANY, ANY],
    ["lake", ANY],
    ["lake", "migrate", "--to-catalog", ANY, "--to-data", ANY],
    ["rollout", "split", ANY, "--to", ANY, "--share", ANY],
    ["export", ANY],
    ["plan", "--against", ANY],
    ["plan", "--format", ANY],
    ["verify", "--since", ANY, "--until", ANY],
    ["acl", ANY],
    ["serve", "--host", ANY, "--port", "not a port"],
]
DEAR = [
    ["explain", "spending:count_1h", ANY, "--as-of", ANY],
    ["explain", ANY, "customer=ada"],
    ["training-set", ANY, ANY],
    ["dead-letters", "list", ANY, "--reason", ANY, "--since", ANY],
    ["dead-letters", "show", "payments", ANY],
    ["dead-letters", "replay", "payments", ANY],
    ["keys", "create", ANY, "--service", ANY, "--view", ANY, "--personal", ANY],
    ["keys", "rotate", ANY, "--overlap", ANY],
    ["keys", "revoke", ANY],
    ["materialize", ANY, "--start", "2026-03-01", "--end", ANY],
    ["rollout", "shadow", "risk", "--to", ANY, "--share", ANY],
    ["rollout", "promote", ANY, "--to", ANY],
    ["rollout", "status", ANY],
    ["rollout", "report", "risk", "--label", ANY],
    ["resume", ANY],
    ["publish", ANY, ANY],
    ["verify", "--service", ANY],
    ["lake", "expire", "--days", ANY, "--environment", ANY],
    ["retire", ANY, "--service"],
]


@st.composite
def commands(draw, templates):
    return [draw(words) if part is ANY else part for part in draw(st.sampled_from(templates))]


@tried(40)
@given(command=commands(CHEAP))
def test_texts_that_are_judged_at_once(shop, command):
    check(command)


@tried(20)
@given(command=commands(DEAR))
def test_texts_that_are_looked_up(shop, command):
    check(command)


def test_what_was_served_before_any_stream_came_is_verified(shop):
    assert said(["verify", "--service", "risk"])[0] == 0


def test_an_argument_that_is_no_text_is_said(shop):
    for command in (["retire", "\udcff", "--service"], ["get", "risk", "customer=\udcff"]):
        code, _, err = said(command)
        assert code == 2
        assert "text" in err


@tried(8)
@given(data=st.data())
def test_files_of_anything(shop, data):
    lines = [
        json.dumps(EVENT),
        json.dumps(data.draw(json_values)),
        json.dumps({**EVENT, "amount": data.draw(json_values)}),
    ]
    whole = {
        "events.jsonl": "\n".join(lines).encode("utf-8", "replace"),
        "events.csv": (HEADER + "p9,ada,5.5,2026-03-02T09:00:00Z\n").encode(),
        "events.parquet": (shop / "whole.parquet").read_bytes(),
    }
    name = data.draw(st.sampled_from(sorted(whole)))
    content = data.draw(st.one_of(damaged(whole[name]), st.just(whole[name]), st.builds(noise, st.integers(0, 300))))
    (shop / name).write_bytes(content)

    check(["publish", "payments", name])


@pytest.mark.parametrize("garbage", [b"\xff", b"{}", b"[" * DEEP], ids=["bytes", "nothing", "deep"])
def test_what_cannot_be_read_in_redis_is_said_and_mended_by_apply(shop, garbage):
    with FeatureStore() as store:
        env, client = store.settings.environment, store.redis
        for name in (layouts_key(env), services_key(env), ready_key(env)):
            client.hset(
                name, mapping={**dict.fromkeys(client.hkeys(name), garbage), b"\xff": garbage, b"old@1": garbage}
            )
        client.mset({access_key(env): garbage, generation_key(env): garbage, applied_key(env): garbage})

    for command in (
        ["status"],
        ["get", "risk", "customer=ada"],
        ["rollout", "status"],
        ["doctor"],
        ["retire", "old@1"],
        ["plan"],
    ):
        check(command)
    assert said(["apply"])[0] == 0
    assert said(["get", "risk", "customer=ada"])[0] == 0
