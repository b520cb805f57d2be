"""Connections that people make: tried before they are saved, used at once, their credentials never shown again."""

import os
import uuid

import openai
import pytest

from conftest import BROKLE_URL, CONTENT, KEY, UPSTREAM_URL, call, eventually, make_client, user

OTHER_KEY = os.environ["BROKLE_OTHER_PROJECT_KEY"]
SECRET = "sk-tenant-0123456789abcdef-WXYZ"


def connections(method, path="", body=None, key=KEY):
    headers = {"Authorization": f"Bearer {key}"}
    status, _, answer = call(method, f"{BROKLE_URL}/api/v1/connections{path}", body, headers)
    return status, answer


def wanted(**more):
    name = f"tenant-{uuid.uuid4().hex[:8]}"
    return {"provider": "openai", "name": name, "base_url": f"{UPSTREAM_URL}/v1", "secret": SECRET, **more}


@pytest.fixture
def made():
    status, connection = connections("POST", body=wanted())
    assert status == 201, connection
    yield connection
    connections("DELETE", f"/{connection['id']}")


def test_it_serves_at_once_and_its_credential_goes_to_the_vendor_only(made, mark):
    assert made["secret_preview"] == "sk-t...WXYZ" and "secret" not in made and made["scope"] == "project"
    with make_client() as client:
        answer = client.chat.completions.create(
            model=f"{made['name']}/gpt-4o-mini", messages=user("hi"), extra_headers=mark.headers
        )
    assert answer.choices[0].message.content == CONTENT
    (request,) = mark.requests()
    assert ["authorization", f"Bearer {SECRET}"] in request["headers"]
    status, shown = connections("GET", f"/{made['id']}")
    assert status == 200 and SECRET not in str(shown)
    status, listed = connections("GET")
    assert status == 200 and made["id"] in [c["id"] for c in listed["data"]] and SECRET not in str(listed)


def test_calls_take_turns_with_several_credentials(mark):
    both = ["sk-first-0123456789abcdef-AAAA", "sk-second-0123456789abcdef-BBBB"]
    body = wanted(secrets=both)
    status, problem = connections("POST", body=body)
    assert (status, problem["param"]) == (422, "secret"), problem
    del body["secret"]
    status, trial = connections("POST", "/test", {**body, "headers": {"x-test-fault": "status=401"}})
    assert status == 200 and trial["error"]["message"].startswith("secret 1 of 2: "), trial
    status, made = connections("POST", body=body)
    assert status == 201 and made["secret_previews"] == ["sk-f...AAAA", "sk-s...BBBB"], made
    try:
        with make_client() as client:
            for _ in range(4):
                client.chat.completions.create(
                    model=f"{made['name']}/gpt-4o-mini", messages=user("hi"), extra_headers=mark.headers
                )
        used = [value for r in mark.requests() for name, value in r["headers"] if name == "authorization"]
        assert sorted(used) == sorted(f"Bearer {key}" for key in both * 2), "each had half of the calls"
        status, changed = connections("PATCH", f"/{made['id']}", {"secrets": [SECRET]})
        assert status == 200 and changed["secret_previews"] == ["sk-t...WXYZ"], changed
    finally:
        connections("DELETE", f"/{made['id']}")


def test_a_trial_tells_what_the_vendor_says_and_stores_nothing():
    body = wanted()
    status, trial = connections("POST", "/test", body)
    assert (status, trial["ok"]) == (200, True), trial
    assert trial["models"] >= 1 and trial["latency_ms"] > 0
    body = wanted(headers={"x-test-fault": "status=401"})
    status, trial = connections("POST", "/test", body)
    assert (status, trial["ok"], trial["error"]["status"]) == (200, False, 401), trial
    _, listed = connections("GET")
    assert body["name"] not in [c["name"] for c in listed["data"]]


def test_what_the_vendor_refuses_is_not_saved_unless_nobody_asks():
    body = wanted(headers={"x-test-fault": "status=401"})
    status, problem = connections("POST", body=body)
    assert (status, problem["code"]) == (422, "connection_test_failed")
    assert SECRET not in str(problem)
    _, listed = connections("GET")
    assert body["name"] not in [c["name"] for c in listed["data"]]
    status, made = connections("POST", "?verify=false", body)
    assert status == 201
    assert connections("DELETE", f"/{made['id']}")[0] == 204
    assert connections("GET", f"/{made['id']}")[0] == 404


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"provider": "nobody"}, None),
        ({"options": {"organisation": "x"}}, None),
        ({"base_url": "ftp://example.org"}, None),
        ({"secret": ""}, "secret"),
        ({"name": " "}, "name"),
        ({"headers": {"authorization": "Bearer x"}}, None),
    ],
)
def test_a_wrong_field_is_named(change, param):
    status, problem = connections("POST", "?verify=false", wanted(**change))
    assert (status, problem["code"]) == (422, "invalid_connection"), problem
    assert problem.get("param") == param


def test_a_change_takes_effect_and_a_new_address_needs_the_credential_again(made):
    path = f"/{made['id']}"
    status, changed = connections("PATCH", path, {"priority": 7, "enabled": True})
    assert (status, changed["priority"], changed["secret_preview"]) == (200, 7, "sk-t...WXYZ")
    elsewhere = {"base_url": f"{UPSTREAM_URL.replace('127.0.0.1', 'localhost')}/v1"}
    status, problem = connections("PATCH", f"{path}?verify=false", elsewhere)
    assert (status, problem["param"]) == (422, "secret")
    status, changed = connections("PATCH", f"{path}?verify=false", {**elsewhere, "secret": "sk-another-0123456789"})
    assert (status, changed["secret_preview"]) == (200, "sk-a...6789")
    status, changed = connections("PATCH", path, {"enabled": False})
    assert (status, changed["enabled"]) == (200, False)

    def gone():
        with make_client() as client:
            try:
                client.chat.completions.create(model=f"{made['name']}/gpt-4o-mini", messages=user("hi"))
            except openai.NotFoundError as error:
                return error
        return None

    assert eventually(gone).code == "model_not_found"


def test_an_option_that_is_part_of_the_address_is_checked_and_moves_no_credential():
    new = {"provider": "azure-foundry", "name": f"foundry-{uuid.uuid4().hex[:8]}", "secret": SECRET}
    for options in ({}, {"resource": "evil.example/"}, {"resource": "a@b"}):
        status, problem = connections("POST", "?verify=false", {**new, "options": options})
        assert status == 422 and "resource" in problem["detail"], problem
    status, made = connections("POST", "?verify=false", {**new, "options": {"resource": "ours"}})
    assert status in (200, 201), made
    path = f"/{made['id']}"
    status, problem = connections("PATCH", f"{path}?verify=false", {"options": {"resource": "theirs"}})
    assert (status, problem["param"]) == (422, "secret")
    kept = {"options": {"resource": "ours", "max_tokens": "keep"}}
    assert connections("PATCH", f"{path}?verify=false", kept)[0] == 200, "it goes where it went"
    again = {"options": {"resource": "theirs"}, "secret": "sk-another-0123456789"}
    assert connections("PATCH", f"{path}?verify=false", again)[0] == 200
    assert connections("DELETE", path)[0] == 204


def test_two_of_one_name_and_fields_that_are_not_there(made):
    status, problem = connections("POST", "?verify=false", wanted(name=made["name"]))
    assert status == 409, problem
    assert connections("POST", body={**wanted(), "secrets": "x"})[0] == 400
    assert connections("GET", "/not-an-id")[0] == 404


def test_another_project_sees_and_changes_nothing(made):
    path = f"/{made['id']}"
    missing = connections("GET", "/01JC0000000000000000000009", key=OTHER_KEY)[1]
    for method, body in [("GET", None), ("PATCH", {"enabled": False}), ("DELETE", None)]:
        status, problem = connections(method, path, body, OTHER_KEY)
        assert status == 404 and problem["detail"] == missing["detail"]
    assert made["id"] not in str(connections("GET", key=OTHER_KEY)[1])
    with make_client(OTHER_KEY) as client, pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=f"{made['name']}/gpt-4o-mini", messages=user("hi"))
