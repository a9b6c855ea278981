"""Role x operation x service, view or source: the operations come from the API's own document, every cell is asked for."""

import asyncio
import re

import pytest
from access_world import KEYS, READS, ROLES, SERVICES, SOURCE, UNKNOWN, VIEWS, AccessWorld, api, bearer, keys_of_roles

OPEN = {"GET /health", "GET /ready", "GET /problems/{kind}", "GET /catalog", "GET /catalog/{file}"}
ANYBODY = {"GET /v1/services", "GET /v1/key", "GET /openapi.json", "GET /v1/catalog", "GET /v1/catalog/freshness"}
"""Which take a key, but no grant."""


def requests_of(path, method):
    """What an operation of the document lets one ask for: (what it takes, path, body), once for each name."""
    service = re.fullmatch(r"/v1/services/(\w+)(?:/versions/\d+)?/features(/batch)?", path)
    source = re.fullmatch(r"/v1/sources/(\w+)/events", path)
    if service:
        keys = KEYS[service[1]]
        return [(f"service {service[1]}", path, {"rows": [keys]} if service[2] else {"keys": keys})]
    if source:
        return [(f"source {source[1]}", path, {"events": [{"uid": "u1", "at": "2023-11-14T20:00:00Z"}]})]
    if path == "/v1/features":
        rows = [{"origin": "JFK", "dest": "LAX"}]
        return [(f"view {view}", path, {"features": [f"{view}:{name}"], "rows": rows}) for view, name in VIEWS.items()]
    if path == "/v1/services/{service}":
        return [(f"describe {name}", f"/v1/services/{name}", None) for name in SERVICES]
    if path == "/v1/catalog/{group}/{name}":
        groups = {"views": VIEWS, "services": SERVICES, "sources": (SOURCE,)}
        return [
            (f"catalog {group} {name}", f"/v1/catalog/{group}/{name}", None)
            for group, names in groups.items()
            for name in names
        ]
    own = {"/metrics": "metrics", "/v1/keys": "keys"}
    operation = f"{method} {path}"
    assert path in own or operation in OPEN | ANYBODY, f"{operation} is new: say here what it takes"
    return [(own.get(path, operation), path.replace("{kind}", "forbidden").replace("{file}", "app.js"), None)]


@pytest.fixture(scope="module")
def answers(valkey, module_environment):
    """(role, what it takes, operation) -> status; and role -> document and list of services."""
    world = AccessWorld(valkey.url, module_environment)
    keys = keys_of_roles(world)

    async def run():
        cells, seen = {}, {}
        async with api(world) as client:

            async def get(path, role):
                return await client.get(path, headers=bearer(keys[role]))

            document = (await get("/openapi.json", "may all")).json()
            operations = [(path, method) for path, methods in document["paths"].items() for method in methods]
            for role, key in keys.items():
                for path, method in operations:
                    for takes, asked, body in requests_of(path, method.upper()):
                        headers = bearer(key)
                        answer = await client.request(method, asked, json=body, headers=headers)
                        cells[role, takes, f"{method.upper()} {path}"] = answer.status_code
                if role in ROLES:
                    asked = ("/openapi.json", "/v1/services", "/v1/catalog", "/v1/catalog/freshness")
                    seen[role] = tuple([(await get(path, role)).json() for path in asked])
            routes = {(method, route.path) for route in client.app.routes for method in route.methods - {"HEAD"}}
            return cells, seen, routes, document

    return asyncio.run(run())


def is_in_catalog(group, name, allowed):
    """Whether a role sees something in the catalog: what it may read or publish to, and what that is made of."""
    if "keys" in allowed or f"{group.rstrip('s')} {name}" in allowed:
        return True
    return group == "views" and any(name in READS[each] for each in SERVICES if f"service {each}" in allowed)


def expected(role, takes, operation):
    if operation in OPEN:
        return 200
    if role in UNKNOWN:
        return 401
    allowed = ROLES[role][1]
    if takes in allowed or operation in ANYBODY:
        return 200
    kind, _, name = takes.partition(" ")
    if kind == "catalog":
        return 200 if is_in_catalog(*name.split(), allowed) else 403
    return 200 if kind == "describe" and f"service {name}" in allowed else 403


def test_every_cell_of_the_matrix_is_what_the_roles_say(answers):
    cells, *_ = answers
    wrong = {cell: (got, expected(*cell)) for cell, got in cells.items() if got != expected(*cell)}

    assert wrong == {}
    assert len(cells) >= 400
    assert {status for (role, *_), status in cells.items() if role not in UNKNOWN} == {200, 403}


def test_the_document_has_every_route_of_the_application(answers):
    _, _, routes, document = answers
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}

    def is_told(method, path):
        pattern = re.sub(r"\\\{(\w+)(:int)?\\\}", r"(?:\\{\1\\}|\\w+)", re.escape(path))
        return any(method == m and re.fullmatch(pattern, p) for m, p in told)

    assert {route for route in routes if not is_told(*route)} == set()


def test_each_role_is_described_what_it_may_do_and_no_more(answers):
    _, seen, *_ = answers
    for role, (_, allowed) in ROLES.items():
        document, listed, *_ = seen[role]
        admin = "keys" in allowed
        visible = {name for name in SERVICES if admin or f"service {name}" in allowed}
        paths = document["paths"]
        named = {match[1] for path in paths if (match := re.match(r"/v1/services/(\w+)/", path))}
        assert {service["name"] for service in listed} == named == visible, role
        assert (f"/v1/sources/{SOURCE}/events" in paths) == (admin or f"source {SOURCE}" in allowed), role
        assert [path in paths for path in ("/metrics", "/v1/keys")] == ["metrics" in allowed, admin], role
        hidden = [name for name in SERVICES if name not in visible]
        assert not any(f'"{name.title()}V1' in str(document).replace("'", '"') for name in hidden), role


def test_each_role_finds_in_the_catalog_what_it_may_ask_for_and_no_more(answers):
    _, seen, *_ = answers
    for role, (_, allowed) in ROLES.items():
        *_, catalog, freshness = seen[role]
        for group, names in (("views", VIEWS), ("services", SERVICES), ("sources", (SOURCE,))):
            visible = {name for name in names if is_in_catalog(group, name, allowed)}
            assert {each["name"] for each in catalog[group]} == visible, (role, group)
        assert set(freshness) == {f"{each['name']}@1" for each in catalog["views"]}, role
        assert set(catalog["served"]) == {each["name"] for each in catalog["services"]}, role


def test_the_document_says_what_each_operation_takes(answers):
    *_, document = answers
    takes = {
        f"{method.upper()} {path}": operation["security"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }

    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert takes["POST /v1/services/stay/features"] == [{"key": ["service:stay", "personal:guests"]}]
    assert takes["POST /v1/services/score/features"] == [{"key": ["service:score", "personal:guests"]}]
    assert takes[f"POST /v1/sources/{SOURCE}/events"] == [{"key": [f"source:{SOURCE}"]}]
    assert takes["GET /v1/keys"] == [{"key": ["admin"]}]
    assert {operation for operation, security in takes.items() if security == []} == OPEN
