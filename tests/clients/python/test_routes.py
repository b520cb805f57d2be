"""Routes that people make: served at once, versioned, and nobody else's."""

import os
import uuid

import pytest

from conftest import BROKLE_URL, CONTENT, KEY, call, make_client, user

OTHER_KEY = os.environ["BROKLE_OTHER_PROJECT_KEY"]
READ_ONLY_KEY = os.environ["BROKLE_READ_ONLY_KEY"]


def routes(method, path="", body=None, key=KEY):
    status, _, answer = call(
        method, f"{BROKLE_URL}/api/v1/routes{path}", body, {"Authorization": f"Bearer {key}"}
    )
    return status, answer


def wanted(**more):
    candidates = [{"provider": "openai", "model": "gpt-4o-mini"}]
    return {"name": f"route-{uuid.uuid4().hex[:8]}", "candidates": candidates, **more}


@pytest.fixture
def made():
    status, route = routes("POST", body=wanted(scope="organization"))
    assert status == 201, route
    yield route
    routes("DELETE", f"/{route['id']}")


def test_it_serves_at_once_and_is_listed(made):
    with make_client() as client:
        answer = client.chat.completions.create(model=made["name"], messages=user("hi"))
        assert answer.choices[0].message.content == CONTENT
        assert made["name"] in [model.id for model in client.models.list()]


def test_a_project_has_its_own_and_sees_but_doesnt_change_the_organizations(made):
    path = f"/{made['name']}"
    assert routes("GET", path, key=OTHER_KEY)[1]["id"] == made["id"]
    for method, body in [("PATCH", {"retries": 1}), ("DELETE", None)]:
        status, refused = routes(method, path, body, key=OTHER_KEY)
        assert (status, refused["code"]) == (403, "insufficient_scope")
    status, refused = routes("POST", body=wanted(scope="organization"), key=OTHER_KEY)
    assert (status, refused["code"]) == (403, "insufficient_scope")
    status, own = routes("POST", body=wanted(), key=OTHER_KEY)
    assert status == 201, own
    try:
        for path in (own["name"], own["id"], f"{own['id']}/versions"):
            assert routes("GET", f"/{path}")[0] == 404
        for method in ("PATCH", "DELETE"):
            assert routes(method, f"/{own['id']}", {})[0] == 404
        assert routes("POST", f"/{own['id']}/rollback", {"version": 1})[0] == 404
        assert own["id"] not in [route["id"] for route in routes("GET")[1]["data"]]
    finally:
        assert routes("DELETE", f"/{own['id']}", key=OTHER_KEY)[0] == 204


def test_it_takes_the_scope():
    for method, path, body in [("GET", "", None), ("POST", "", wanted()), ("POST", "/dry-run", {"route": wanted()})]:
        status, refused = routes(method, path, body, key=READ_ONLY_KEY)
        assert (status, refused["code"]) == (403, "insufficient_scope")
