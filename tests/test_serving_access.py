"""Keys before the HTTP API: who is not known or not allowed gets one typed problem, and learns nothing of what there is."""

import asyncio
import json
import time

import pytest
from access_world import DAY_US, JFK, READ, AccessWorld, api, ask, bearer, read
from online_world import NOW_US, departures, item, service

from feature_store.access.audit import AuditLog
from feature_store.access.keyring import Keyring, encode_keyring
from feature_store.online.keys import access_key
from feature_store.reader.async_transport import transport_to
from feature_store.serving import guard


@pytest.fixture
def world(valkey, environment):
    return AccessWorld(valkey.url, environment)


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == answer.status_code
    return told["type"].removeprefix("/problems/"), told["detail"]


def test_without_any_key_everybody_on_the_machine_reads_but_personal_data(world):
    assert read(world).status_code == 200

    refused = read(world, name="stay")

    assert refused.status_code == 401
    assert problem(refused) == ("unauthenticated", "this takes a key with the grant 'personal:guests'")
    assert refused.headers["www-authenticate"] == 'Bearer realm="feature-store"'


def test_once_a_key_exists_nobody_is_answered_without_one_even_when_it_is_revoked(world):
    key = world.key(services=["delay"])

    assert (read(world).status_code, read(world, key).status_code) == (401, 200)
    world.revoke(key)
    assert (read(world).status_code, read(world, key).status_code) == (401, 401)


def test_a_server_can_ask_for_keys_before_there_are_any(world):
    assert read(world, options={"keys_required": True}).status_code == 401


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([], "a key is needed: the header `Authorization: Bearer <key>`"),
        (["Basic YTpi"], "`Authorization` must be `Bearer <key>`, got something else"),
        (["Bearer"], "got something else"),
        (["Bearer a b"], "got something else"),
        (["Bearer " + "x" * 600], "got something else"),
        (["Bearer \xe4\xf6"], "got something else"),
        (["Bearer hunter2"], "what was given has not the form of a key"),
        (["Bearer fsk_aaaaaaaa_" + "x" * 43], "there is no such key, or it was revoked or rotated"),
        (["KEY", "KEY"], "got 2 of them"),
        ([""], "got something else"),
    ],
)
def test_a_header_that_names_no_key_is_a_problem_that_does_not_repeat_it(world, headers, said):
    key = world.key(services=["*"])
    given = [(b"authorization", header.replace("KEY", f"Bearer {key}").encode("latin-1")) for header in headers]

    async def run():
        async with api(world) as client:
            return await client.post(READ, json={"keys": JFK}, headers=given)

    answer = asyncio.run(run())

    assert answer.status_code == 401
    kind, detail = problem(answer)
    assert kind == "unauthenticated"
    assert said in detail
    assert "hunter2" not in answer.text
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="feature-store"')
    assert ("error=" in challenge) == bool(headers)


def test_the_scheme_is_written_as_one_likes_and_one_wrong_letter_is_another_key(world):
    key = world.key(services=["delay"])
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")

    assert read(world, headers={"authorization": f"bearer  {key}"}).status_code == 200
    assert read(world, wrong).status_code == 401


def test_a_key_ends_when_it_was_said_to(world):
    key = world.key(services=["delay"], expires_us=NOW_US + DAY_US)

    assert read(world, key).status_code == 200
    world.clock.at_us += DAY_US
    assert problem(read(world, key))[1].startswith(f"key '{key.split('_')[1]}' expired at 2023-11-15")


def test_what_a_key_does_not_allow_is_said_before_anybody_looks_whether_it_exists(world):
    key = world.key(services=["delay"], sources=["other"], views=["departures"])
    told = {
        name: problem(answer)
        for name, answer in {
            "service": read(world, key, name="trip"),
            "nothing": read(world, key, name="nothing"),
            "source": ask(world, "POST", "/v1/sources/readings/events", key, json={"events": [{}]}),
            "view": ask(world, "POST", "/v1/features", key, json={"features": ["legs:count_1d"], "rows": []}),
            "keys": ask(world, "GET", "/v1/keys", key),
            "metrics": ask(world, "GET", "/metrics", key),
        }.items()
    }

    key_id = key.split("_")[1]
    grants = ("service:trip", "service:nothing", "source:readings", "view:legs", "admin", "metrics")
    assert list(told.values()) == [("forbidden", f"key '{key_id}' has not the grant '{grant}'") for grant in grants]


def test_a_refusal_says_in_its_challenge_what_is_missing(world):
    answer = read(world, world.key(metrics=True))

    assert answer.status_code == 403
    assert answer.json()["grant"] == "service:delay"
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


def test_a_wrong_name_lists_only_what_the_key_may_see(world):
    key = world.key(services=["de*", "st*"], views=["dep*", "gu*", "no*"])

    assert read(world, key, name="delays").json()["known"] == ["delay"]
    assert read(world, key, name="stays").json()["known"] == ["delay"]
    versions = ask(world, "POST", "/v1/services/delay/versions/9/features", key, json={})
    assert versions.json()["known"] == ["delay@1"]
    unknown = ask(world, "POST", "/v1/features", key, json={"features": ["nothing:x"], "rows": []})
    assert unknown.json()["known"] == ["departures"]
    version = ask(world, "POST", "/v1/features", key, json={"features": ["departures@9:x"], "rows": []})
    assert version.json()["known"] == ["departures@1"]
    feature = ask(world, "POST", "/v1/features", key, json={"features": ["departures:x"], "rows": []})
    assert feature.json()["known"] == ["count_1h", "mean_1h"]
    described = ask(world, "GET", "/v1/services/delays", key)
    assert (described.status_code, described.json()["known"]) == (404, ["delay"])


def test_personal_data_takes_a_grant_of_its_own_beside_the_other(world):
    everything = world.key(services=["*"], views=["*"])
    granted = world.key(services=["stay"], views=["guests"], personal=["guests"])
    alone = world.key(personal=["guests"])
    body = {"features": ["guests:count_1h"], "rows": [JFK]}

    assert [read(world, key, name="stay").status_code for key in (everything, granted, alone)] == [403, 200, 403]
    statuses = [ask(world, "POST", "/v1/features", key, json=body).status_code for key in (everything, granted, alone)]
    assert statuses == [403, 200, 403]
    assert read(world, everything, name="stay").json()["grant"] == "personal:guests"


def test_a_version_with_personal_data_that_is_promoted_during_a_read_is_not_served(world):
    key = world.key(services=["delay"])

    async def run():
        async with api(world) as client:
            before = await client.post(READ, json={"keys": JFK}, headers=bearer(key))
            world.publish(services=[service(item("guests", "count_1h"), name="delay", version=2)])
            await asyncio.sleep(1.1)  # the reader looks each second, the list of services is believed for five
            one = await client.post(READ, json={"keys": JFK}, headers=bearer(key))
            many = await client.post(f"{READ}/batch", json={"rows": [JFK]}, headers=bearer(key))
            return before, one, many

    before, one, many = asyncio.run(run())

    assert before.json()["service"] == "delay@1"
    assert [one.status_code, many.status_code] == [403, 403]


def test_a_new_version_with_personal_data_is_not_read_by_the_bare_name_of_its_view(world):
    key = world.key(views=["*"])
    body = {"features": ["departures:count_1h"], "rows": [JFK]}

    async def run():
        async with api(world) as client:
            before = await client.post(
                "/v1/features", json={"features": ["departures:mean_1h"], "rows": [JFK]}, headers=bearer(key)
            )
            personal = departures(version=2, personal=True)
            world.publish(personal)
            world.put(personal, "JFK", 9, 1.0)
            return before, await client.post("/v1/features", json=body, headers=bearer(key))

    before, after = asyncio.run(run())

    assert before.status_code == 200
    assert (after.status_code, after.json()["grant"]) == (403, "personal:departures")


def test_who_asks_is_told_what_his_key_may_do_and_only_who_administers_who_has_which(world):
    reader, admin = world.key(services=["delay"], expires_us=NOW_US + DAY_US), world.key(admin=True)

    own, keys = ask(world, "GET", "/v1/key", reader).json(), ask(world, "GET", "/v1/keys", admin)

    assert (own["id"], own["grants"], own["state"]) == (reader.split("_")[1], {"services": ["delay"]}, "active")
    assert [each["id"] for each in keys.json()] == [reader.split("_")[1], admin.split("_")[1]]
    assert "digest" not in keys.text
    assert read(world, admin).status_code == 403


def test_a_revoked_key_is_of_no_use_a_second_later_and_one_that_is_made_works(world, monkeypatch):
    key = world.key(services=["delay"])

    async def run():
        async with api(world) as client:
            first = await client.post(READ, json={"keys": JFK}, headers=bearer(key))
            world.revoke(key)
            other = world.key(services=["delay"])
            await asyncio.sleep(guard.LOOK_S + 0.05)
            return [first, *[await client.post(READ, json={"keys": JFK}, headers=bearer(k)) for k in (key, other)]]

    assert [answer.status_code for answer in asyncio.run(run())] == [200, 401, 200]


@pytest.mark.parametrize("loss", ["emptied", "older", "broken"])
def test_a_store_that_does_not_say_who_may_is_believed_for_a_while_and_then_nobody_may(world, loss, monkeypatch):
    monkeypatch.setattr(guard, "LOOK_S", 0.05)
    monkeypatch.setattr(guard, "TRUST_S", 0.4)
    old = world.key(services=["delay"])
    older = world.client.get(access_key(world.env))
    world.revoke(old)
    key = world.key(services=["delay"])

    async def run():
        async with api(world) as client:

            async def status(key):
                return (await client.post(READ, json={"keys": JFK}, headers=bearer(key))).status_code

            before = [await status(key), await status(old)]
            if loss == "emptied":
                world.client.delete(access_key(world.env))
            else:
                world.client.set(access_key(world.env), older if loss == "older" else b"{")
            await asyncio.sleep(0.1)
            soon = [await status(key), await status(old)]
            await asyncio.sleep(0.5)
            later, ready = [await status(key), await status(old)], (await client.get("/ready")).status_code
            world.have(world.keyring)
            await asyncio.sleep(0.1)
            return before, soon, later, ready, [await status(key), await status(old)]

    before, soon, later, ready, after = asyncio.run(run())

    assert (before, soon, later, ready, after) == ([200, 401], [200, 401], [503, 503], 503, [200, 401])


def test_all_requests_that_come_before_keys_were_ever_looked_up_wait_for_it(world):
    key = world.key(services=["delay"])

    async def run():
        async with api(world) as client:
            asked = [client.post(READ, json={"keys": JFK}, headers=bearer(key)) for _ in range(4)]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(run()) == [200] * 4


def test_a_store_that_never_said_who_may_answers_nobody(world):
    world.client.delete(access_key(world.env))

    answer = read(world)

    assert answer.status_code == 503
    assert problem(answer)[1].endswith("run `feature-store apply`")


def test_who_is_alive_and_ready_is_told_to_everybody_and_nothing_else(world):
    world.key(services=["delay"])

    public = {path: ask(world, "GET", path) for path in ("/health", "/ready", "/problems/forbidden")}

    assert {path: answer.status_code for path, answer in public.items()} == dict.fromkeys(public, 200)
    assert public["/ready"].json() == {"status": "ready", "environment": world.env}
    assert ask(world, "GET", "/openapi.json").status_code == 401


def test_checking_a_key_costs_a_read_microseconds(world):
    key = world.key(services=[f"service_{number}" for number in range(50)])
    for _ in range(100):
        world.key(services=["delay"])
    watch = guard.Guard(transport_to(world.url, timeout_s=1.0), world.env, world.clock)

    async def run():
        best = 1.0
        for _ in range(20):
            began = time.perf_counter()
            for _ in range(100):
                caller = await watch.caller([f"Bearer {key}"])
                caller.reads_service("service_7")
            best = min(best, (time.perf_counter() - began) / 100)
        await watch.transport.close()
        return best

    assert asyncio.run(run()) < 25e-6


def test_the_audit_log_says_who_did_what_with_which_outcome_and_no_value(world, tmp_path):
    path = tmp_path / "audit.jsonl"
    reader, guest = world.key(services=["delay"]), world.key(services=["stay"], personal=["guests"])
    log = AuditLog(str(path))

    async def run():
        async with api(world, audit=log) as client:
            await client.post(READ, json={"keys": JFK}, headers=bearer(reader))
            await client.post("/v1/services/stay/features/batch", json={"rows": [JFK] * 3}, headers=bearer(guest))
            await client.post("/v1/services/trip/features", json={"keys": JFK}, headers=bearer(reader))
            await client.post(READ, json={"keys": JFK}, headers=bearer(reader[:-3] + "xyz"))
            await client.post(READ, json={"keys": JFK})
            await client.post("/v1/features", json={"features": ["legs:count_1d"], "rows": []}, headers=bearer(reader))
            await client.post("/v1/sources/readings/events", json={"events": [{}]}, headers=bearer(reader))
            await client.get("/health")

    asyncio.run(run())

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    told = [
        (line["did"], line.get("key"), line.get("what"), line.get("rows"), line["status"], line.get("problem"))
        for line in lines
    ]
    one, two = reader.split("_")[1], guest.split("_")[1]
    assert told == [
        ("read", one, "delay@1", 1, 200, None),
        ("read_batch", two, "stay@1", 3, 200, None),
        ("read", one, "trip", None, 403, "forbidden"),
        ("read", None, None, None, 401, "unauthenticated"),
        ("read", None, None, None, 401, "unauthenticated"),
        ("read_features", one, "legs:count_1d", None, 403, "forbidden"),
        ("publish", one, "readings", None, 403, "forbidden"),
    ]
    assert [line.get("claimed") for line in lines] == [None, None, None, one, None, None, None]
    assert {line["peer"] for line in lines} == {"127.0.0.1"}
    assert lines[0]["at"] == "2023-11-14T22:13:20.500000Z"
    assert "JFK" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_keyring_of_another_environment_opens_nothing(world):
    key = world.key(services=["delay"])
    world.client.set(access_key(world.env), encode_keyring(Keyring(version=9)))

    assert read(world, key).status_code == 401
