"""Requests generated from the API's own document, by its rules and against them: every answer is one that the document has."""

import itertools

import httpx
import msgspec
import pytest
import requests
import schemathesis
from access_world import SOURCE, bearer
from api_server import running
from fuzzing import FACTOR, tried
from hypothesis import given, reject
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from typed_world import TypedWorld

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
KINDS = ["application/json", "application/msgpack", "*/*", "text/html", ""]
REFUSED = {400, 401, 404, 406, 409, 413, 415, 422}


@schemathesis.serializer("application/msgpack")
def packed(context, value):
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:  # MessagePack has no such integer
        return reject()


@pytest.fixture(scope="module")
def world(valkey, module_environment):
    return TypedWorld(valkey.url, module_environment)


@pytest.fixture(scope="module")
def key(world):
    return world.key(services=["*"], views=["*"], personal=["guests"], sources=[SOURCE], admin=True)


@pytest.fixture(scope="module")
def api(world):
    with running(world) as api:
        yield api


@pytest.fixture(scope="module")
def operations(api, key):
    load_all_checks()
    document = httpx.get(f"{api.url}/openapi.json", headers=bearer(key)).json()
    found = [each.ok() for each in schemathesis.openapi.from_dict(document).get_all_operations()]
    assert len(found) == sum(map(len, document["paths"].values())) > 30
    # Versions have the paths and types of their services: once is enough in a short run.
    return [each for each in found if FACTOR > 1 or "/versions/" not in each.path or "halves" in each.path]


@pytest.fixture(scope="module")
def session():
    with requests.Session() as session:
        yield session


def answer(api, session, case, **headers):
    given = {name.title(): value for name, value in headers.items()}  # else those of the session win
    response = case.call(base_url=api.url, session=session, headers=given)
    case.validate_response(response, checks=CHECKS)
    return response


def fuzz(operations, mode, check):
    number = itertools.count()
    for operation in operations:

        @tried(5)
        @given(case=operation.as_strategy(generation_mode=mode))
        def one(case):
            check(case, next(number))

        one()


def test_requests_by_the_document_are_answered_as_it_says(api, operations, session, key):
    """Not all of them by 200: of MessagePack's bytes and of what there is a schema knows nothing."""
    statuses = set()

    def check(case, number):
        response = answer(api, session, case, **bearer(key), accept=KINDS[number % len(KINDS)])
        statuses.add(response.status_code)

    fuzz(operations, GenerationMode.POSITIVE, check)
    assert {200, 406} <= statuses
    assert statuses <= {200} | REFUSED


def test_requests_against_the_document_are_refused_as_it_says(api, operations, session, key):
    statuses = set()

    def check(case, number):
        response = answer(api, session, case, **(bearer(key) if number % 4 else {}))
        statuses.add(response.status_code)

    fuzz([each for each in operations if each.method == "post"], GenerationMode.NEGATIVE, check)
    assert {401, 422} <= statuses
    assert statuses <= {200} | REFUSED
