"""API keys where they are kept and made: in the lake, by the command line, published for the servers."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import guarded_shop
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lake_rows import begun

from feature_store import DeclarationError, FeatureStore, Registry
from feature_store.access.book import change_keys, publish_keyring, read_keyring
from feature_store.access.grants import Allowed, Grants
from feature_store.access.keyring import Keyring, decode_keyring, encode_keyring, read_published
from feature_store.access.keys import id_of, make_key, rotated
from feature_store.cli.app import run
from feature_store.errors import InputError, KeyRefused, OnlineStoreError
from feature_store.online.keys import access_key
from feature_store.restore import Refill
from feature_store.settings import PREFIX

NOW_US, DAY_US = 1_700_000_000_000_000, 86_400_000_000
READS = Grants(services=("risk",))


@pytest.fixture
def shop_folder(tmp_path, valkey, environment, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    home = begun(tmp_path / "home", environment)
    settings = {
        "HOME": home,
        "REDIS_URL": valkey.url,
        "ENVIRONMENT": environment,
        "DECLARATIONS": "guarded_shop:registry",
    }
    for name, value in settings.items():
        monkeypatch.setenv(PREFIX + name, str(value))
    return tmp_path


@pytest.fixture
def said(shop_folder, capsys):
    """What commands print, and with which exit code."""

    def say(*command):
        capsys.readouterr()
        code = run(list(command))
        out, err = capsys.readouterr()
        return code, out, err

    return say


def published(valkey, environment):
    from redis import Redis

    with Redis.from_url(valkey.url) as client:
        return read_published(client, environment)


def test_a_key_is_created_listed_rotated_and_revoked(said, valkey, environment, shop_folder, monkeypatch):
    monkeypatch.setenv(f"{PREFIX}AUDIT_LOG", str(shop_folder / "audit.jsonl"))
    assert said("keys", "list")[1].startswith("no keys: the API listens on a loopback address only")

    code, out, _ = said(
        "keys", "create", "fraud model", "--service", "risk", "--service=p*", "--personal=profile", "--expires=90d"
    )
    first = out.splitlines()[-1]
    key_id = id_of(first)
    ring = published(valkey, environment)
    assert code == 0
    assert out.startswith(f"key {key_id} (fraud model): service:risk service:p* personal:profile, until 20")
    assert ring.find(first, now_us=NOW_US).name == "fraud model"
    assert first.rpartition("_")[2] not in encode_keyring(ring).decode()

    _, out, _ = said("keys", "rotate", key_id, "--overlap=1d")
    second = out.splitlines()[-1]
    ring = published(valkey, environment)
    assert id_of(second) == key_id
    assert second != first
    assert ring.find(first, now_us=NOW_US).id == ring.find(second, now_us=NOW_US).id == key_id

    _, out, _ = said("keys", "rotate", key_id)
    third = out.splitlines()[-1]
    for old in (first, second):
        with pytest.raises(KeyRefused, match="there is no such key, or it was revoked or rotated"):
            published(valkey, environment).find(old, now_us=NOW_US)

    assert said("keys", "revoke", key_id) == (0, f"key {key_id} (fraud model) is revoked\n", "")
    with pytest.raises(KeyRefused):
        published(valkey, environment).find(third, now_us=NOW_US)
    assert not published(valkey, environment).is_open
    assert re.search(rf"{key_id} .*fraud model .*revoked", said("keys", "list")[1])
    assert said("keys", "revoke", key_id) == (2, "", f"error: key '{key_id}' is revoked already\n")
    assert said("keys", "rotate", key_id)[2] == f"error: key '{key_id}' is revoked; create another\n"

    lines = [json.loads(line) for line in (shop_folder / "audit.jsonl").read_text().splitlines()]
    done, refused = lines[:4], lines[4:]
    assert [line["did"] for line in done] == ["create key", "rotate key", "rotate key", "revoke key"]
    assert all("@" in line["by"] and line["what"].startswith(key_id) for line in done)
    assert [(line["did"], line["problem"]) for line in refused] == [
        ("revoke key", f"key '{key_id}' is revoked already"),
        ("rotate key", f"key '{key_id}' is revoked; create another"),
    ]
    everything = "".join(path.read_text(errors="replace") for path in shop_folder.rglob("*") if path.is_file())
    assert not any(text.rpartition("_")[2] in everything for text in (first, second, third))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([], "a key must be granted something: services, views, sources, metrics or admin, got nothing"),
        (["--service=rsik"], "unknown service 'rsik'; did you mean 'risk'? (known: broken, person, risk, scored)"),
        (["--view=profil"], "unknown view 'profil'; did you mean 'profile'?"),
        (["--source=refunds"], "unknown source 'refunds' (known: payments)"),
        (["--service=risk@1"], "`service` must be a name, in which `*` stands for any text, got 'risk@1'"),
        (["--view=*", "--personal=*"], "`personal` must be the name of one view, got '*'"),
        (["--view=*", "--personal=spending"], "view 'spending' has none"),
        (["--admin", "--expires=soon"], "`--expires` must be a positive duration"),
    ],
)
def test_a_key_that_cannot_be_meant_is_refused_and_nothing_is_written(said, valkey, environment, options, problem):
    code, out, err = said("keys", "create", "somebody", *options)

    assert (code, out) == (2, "")
    assert problem in err
    assert published(valkey, environment) is None


def test_a_name_that_a_terminal_would_obey_is_refused(said):
    assert said("keys", "create", "a\x1b[2J", "--admin")[2].startswith("error: `name` must be printable text")
    assert said("keys", "revoke", "nobody1") == (2, "", "error: unknown key 'nobody1' (known: none)\n")


def test_keys_survive_an_emptied_store_and_a_store_that_went_back(shop_folder, environment):
    with FeatureStore() as store:
        store.apply()
        lake, client = store.lake, store.redis
        assert read_published(client, environment).is_open

        def change(step):
            return change_keys(step, lake=lake, client=client, env=environment, clock=store.clock)

        key, text = make_key("a", READS, now_us=NOW_US, by="me")
        change(lambda ring: (ring.with_key(key), "created", None))
        refill = Refill()

        def look():
            refill.look(store.compiled, lake, client, env=environment, clock=store.clock)

        look()
        older = client.get(access_key(environment))
        client.delete(access_key(environment))
        look()
        assert read_published(client, environment).find(text, now_us=NOW_US) == key
        other, _ = rotated(key, now_us=NOW_US, overlap_us=0)
        change(lambda ring: (ring.with_key(other), "rotated", None))
        look()
        client.set(access_key(environment), older)  # a replica that had not heard of it has taken over
        look()
        assert read_published(client, environment).version == 2
        client.delete(access_key(environment))
        store.apply()
        assert read_published(client, environment).version == 2


def test_of_many_who_change_keys_at_once_none_is_lost(shop_folder, environment):
    with FeatureStore() as store:
        lake, client = store.lake, store.redis

        def create(number):
            key, _ = make_key(f"key {number}", READS, now_us=NOW_US, by="me")
            change_keys(
                lambda ring: (ring.with_key(key), "created", None),
                lake=lake,
                client=client,
                env=environment,
                clock=store.clock,
            )

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(create, range(6)))

        assert len(read_keyring(lake).keys) == read_published(client, environment).version == 6
        publish_keyring(client, environment, lake)
        assert read_published(client, environment) == read_keyring(lake)


def test_nothing_is_written_while_redis_is_away(shop_folder, said, monkeypatch):
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", "redis://127.0.0.1:1/0")

    code, _, err = said("keys", "create", "somebody", "--admin")

    assert code == 2
    assert "no Redis answers at 127.0.0.1:1" in err
    with FeatureStore() as store:
        assert read_keyring(store.lake).is_open
        with pytest.raises(OnlineStoreError):
            change_keys(lambda ring: (ring, "", None), lake=store.lake, client=store.redis, env="x", clock=store.clock)


def test_a_lake_that_is_away_is_said(shop_folder, said, monkeypatch):
    (shop_folder / "file").write_text("")
    monkeypatch.setenv(f"{PREFIX}HOME", str(shop_folder / "file"))

    code, out, err = said("keys", "list")

    assert (code, out) == (2, "")
    assert err.startswith("error: the lake at")


@given(st.text(alphabet="ab_*", max_size=6), st.text(alphabet="ab_", max_size=8))
def test_a_star_stands_for_any_text_and_everything_else_for_itself(pattern, name):
    def matches(pattern, name):
        if not pattern:
            return not name
        if pattern[0] == "*":
            return any(matches(pattern[1:], name[n:]) for n in range(len(name) + 1))
        return name[:1] == pattern[0] and matches(pattern[1:], name[1:])

    assert Allowed(Grants(views=(pattern,))).view(name) == matches(pattern, name)


def test_no_grant_follows_from_another():
    one = {name: Allowed(Grants(**{name: ("a",)})) for name in ("services", "views", "sources", "personal")}
    admin = Allowed(Grants(admin=True))

    table = [[may.service("a"), may.view("a"), may.source("a"), may.personal("a")] for may in (*one.values(), admin)]

    assert table == [[row == column for column in range(4)] for row in range(5)]
    assert [may.metrics or may.admin for may in one.values()] == [False] * 4


def test_a_keyring_reads_back_as_it_was_written():
    key, text = make_key("a", READS, now_us=NOW_US, by="me", expires_us=NOW_US + DAY_US)
    ring = Keyring().with_key(key)

    again = decode_keyring(encode_keyring(ring))

    assert again == ring
    assert again.find(text, now_us=NOW_US) == key
    with pytest.raises(KeyRefused, match="expired at"):
        again.find(text, now_us=NOW_US + DAY_US)
    with pytest.raises(InputError, match="must be in the future"):
        make_key("a", READS, now_us=NOW_US, by="me", expires_us=NOW_US)


@pytest.mark.parametrize("tags", [{}, {"pii": "behaviour"}], ids=["no more", "now"])
def test_a_served_view_becomes_personal_data_or_none_under_a_new_version_only(shop_folder, tags):
    profile = guarded_shop.profile
    other = {"pii": "none"} if tags else {"pii": "behaviour"}
    with FeatureStore(Registry(views=[replace(profile, tags=other)])) as store:
        store.apply()
    changed = Registry(views=[replace(profile, tags=tags)])
    with FeatureStore(changed) as store, pytest.raises(DeclarationError, match="its values stand in Redis as"):
        store.apply()
    with FeatureStore(Registry(views=[replace(profile, tags=other), replace(profile, tags=tags, version=2)])) as store:
        assert "profile@2:count_24h" in store.apply()
