"""A provider's own API through the relay, by a client that knows of nothing but another base URL."""

import uuid

import openai
import pytest

from conftest import BROKLE_URL, CONTENT, KEY, UPSTREAM_URL, call, trace, user

SECRET = "sk-tenant-0123456789abcdef-WXYZ"


@pytest.fixture
def connection():
    name = f"relay-{uuid.uuid4().hex[:8]}"
    headers = {"Authorization": f"Bearer {KEY}"}
    body = {"provider": "openai", "name": name, "base_url": f"{UPSTREAM_URL}/v1", "secret": SECRET}
    status, _, made = call("POST", f"{BROKLE_URL}/api/v1/connections", body, headers)
    assert status == 201, made
    yield name
    call("DELETE", f"{BROKLE_URL}/api/v1/connections/{made['id']}", None, headers)


def client(name):
    return openai.OpenAI(api_key=KEY, base_url=f"{BROKLE_URL}/v1/providers/{name}", max_retries=0)


def test_a_call_and_a_stream_come_back_as_the_vendor_sent_them(connection, mark):
    with client(connection) as relayed:
        answer = relayed.chat.completions.with_raw_response.create(
            model="gpt-4o-mini", messages=user("hi"), extra_headers=mark.headers
        )
        assert answer.parse().choices[0].message.content == CONTENT
        stream = relayed.chat.completions.create(
            model="gpt-4o-mini",
            messages=user("hi"),
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=mark.headers,
        )
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == CONTENT
    assert chunks[-1].usage.total_tokens > 0
    for request in mark.requests():
        assert ["authorization", f"Bearer {SECRET}"] in request["headers"]
        assert KEY not in str(request)
    observation = trace(answer.headers["x-brokle-trace-id"])
    assert observation["model_served"] == "gpt-4o-mini" and float(observation["cost"]) > 0, observation


def test_an_error_is_the_vendors_and_what_is_shut_isnt_there(connection, mark):
    with client(connection) as relayed:
        with pytest.raises(openai.APIStatusError) as caught:
            relayed.chat.completions.create(
                model="gpt-4o-mini",
                messages=user("hi"),
                extra_headers={**mark.headers, "x-test-fault": "status=418"},
            )
        assert caught.value.status_code == 418
    # The suite's own connections are the operator's.
    with client("anthropic") as relayed, pytest.raises(openai.NotFoundError) as caught:
        relayed.models.list()
    assert caught.value.code == "provider_not_found"
