"""What the headers tell, which provider answered, and what is kept of a call."""

import os
import uuid
from decimal import Decimal

import openai
import pytest

from conftest import CONTENT, KEY, api, eventually, read, trace, user


def test_the_headers_of_an_answer(client):
    raw = client.chat.completions.with_raw_response.create(model="openai/gpt-4o-mini", messages=user("one two three"))
    head = raw.headers
    assert raw.parse()._request_id == head["x-request-id"] == raw.request_id
    assert head["content-type"].startswith("application/json")
    assert head["x-brokle-provider"] == "openai"
    assert head["x-brokle-model"] == "gpt-4o-mini"
    assert head["x-brokle-attempts"] == "1"
    assert head["x-brokle-cache"] in ("bypass", "miss")
    # Three tokens in, eight out, at $0.15 and $0.60 for a million.
    assert Decimal(head["x-brokle-cost"]) == Decimal("0.00000525")
    assert int(head["x-ratelimit-limit-requests"]) > int(head["x-ratelimit-remaining-requests"]) > 0
    assert head["x-ratelimit-reset-requests"].endswith("s")
    assert len(head["x-brokle-trace-id"]) == 32


def test_the_headers_of_a_stream(client):
    raw = client.chat.completions.with_raw_response.create(
        model="anthropic/claude-haiku-4-5", messages=user("Hello!"), stream=True
    )
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.headers["x-brokle-provider"] == "anthropic"
    assert raw.headers["x-request-id"]
    assert "x-brokle-cost" not in raw.headers
    assert read(raw.parse())[0]


def test_the_callers_request_id_is_kept(client):
    mine = uuid.uuid4().hex
    answer = client.chat.completions.create(
        model="echo/echo-1", messages=user("Hello!"), extra_headers={"X-Request-Id": mine}
    )
    assert answer._request_id == mine


def test_errors_have_the_headers_too(client):
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="misbehaving/gpt-4o-mini!status=429", messages=user("Hello!"))
    head = caught.value.response.headers
    assert (head["x-brokle-provider"], head["x-brokle-attempts"]) == ("openai", "1")
    failed = trace(head["x-brokle-trace-id"])
    assert (failed["status"], failed["status_code"]) == ("error", 429)
    assert failed["error"]["class"] == "rate_limit_exceeded"
    assert failed["cost"] is None


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", ["refused-first", "overloaded-first"])
def test_failover(client, model, streamed):
    raw = client.chat.completions.with_raw_response.create(model=model, messages=user("Hello!"), stream=streamed)
    answer = raw.parse()
    text = read(answer)[0] if streamed else answer.choices[0].message.content
    assert text == CONTENT
    assert raw.headers["x-brokle-attempts"] == "2"

    attempts = [child for child in trace(raw.headers["x-brokle-trace-id"])["children"] if child["type"] == "attempt"]
    assert [attempt["connection_id"] for attempt in attempts] == [f"{model.split('-')[0].replace('refused', 'refusing')}", "backup"]
    assert [attempt["status"] for attempt in attempts] == ["error", "ok"]
    assert attempts[0]["error"]["class"]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_call_and_its_trace(client, streamed):
    session = uuid.uuid4().hex
    raw = client.chat.completions.with_raw_response.create(
        model="openai/gpt-4o-mini",
        messages=user("one two three"),
        stream=streamed,
        extra_headers={"X-Brokle-User": "user-1", "X-Brokle-Session": session, "X-Brokle-Tags": "a, b"},
    )
    answer = raw.parse()
    if streamed:
        read(answer)
    root = trace(raw.headers["x-brokle-trace-id"])
    assert root["type"] == "generation"
    assert (root["status"], root["status_code"], root["finish_reason"]) == ("ok", 200, "stop")
    assert (root["model"], root["model_served"], root["provider"]) == ("openai/gpt-4o-mini", "gpt-4o-mini", "openai")
    assert (root["usage"]["input"], root["usage"]["output"], root["usage"]["total"]) == (3, 8, 11)
    assert Decimal(root["cost"]) == Decimal("0.00000525")
    assert (root["user"], root["session"], root["tags"]) == ("user-1", session, ["a", "b"])
    assert root["streaming"] is streamed
    assert root["duration_ms"] >= root["time_to_first_token_ms"] > 0
    assert root["error"] is None
    # The project keeps metadata, not what was said.
    assert (root["input"], root["output"]) == (None, None)
    assert "attempt" in {child["type"] for child in root["children"]}

    status, page = api(f"/traces?session={session}")
    assert status == 200
    assert [row["trace_id"] for row in page["data"]] == [root["trace_id"]]


def test_the_user_field_is_the_user(client):
    name = uuid.uuid4().hex
    client.chat.completions.create(model="echo/echo-1", messages=user("Hello!"), user=name)
    (row,) = eventually(lambda: api(f"/traces?user={name}")[1]["data"] or None)
    assert (row["user"], row["model"]) == (name, "echo/echo-1")


def test_an_embedding_is_a_trace_too(client):
    raw = client.embeddings.with_raw_response.create(model="openai/text-embedding-3-small", input="one two three")
    root = trace(raw.headers["x-brokle-trace-id"])
    assert (root["type"], root["operation"], root["usage"]["input"]) == ("embedding", "embeddings", 3)


def test_the_list_is_newest_first_and_has_pages(client):
    session = uuid.uuid4().hex
    made = []
    for _ in range(5):
        raw = client.chat.completions.with_raw_response.create(
            model="echo/echo-1", messages=user("Hello!"), extra_headers={"X-Brokle-Session": session}
        )
        made.append(raw.headers["x-brokle-trace-id"])
    eventually(lambda: len(api(f"/traces?session={session}")[1]["data"]) == 5 or None)
    seen, cursor = [], ""
    while cursor is not None:
        _, page = api(f"/traces?session={session}&limit=2" + (f"&cursor={cursor}" if cursor else ""))
        assert 0 < len(page["data"]) <= 2
        seen += [row["trace_id"] for row in page["data"]]
        cursor = page["next_cursor"]
    assert seen == made[::-1]


def test_another_projects_key_sees_nothing(client):
    session = uuid.uuid4().hex
    raw = client.chat.completions.with_raw_response.create(
        model="echo/echo-1", messages=user("Hello!"), extra_headers={"X-Brokle-Session": session}
    )
    trace_id = raw.headers["x-brokle-trace-id"]
    assert trace(trace_id, KEY)["session"] == session

    other = os.environ["BROKLE_OTHER_PROJECT_KEY"]
    foreign = api(f"/traces/{trace_id}", other)
    missing = api(f"/traces/{uuid.uuid4().hex}", other)
    assert foreign[0] == missing[0] == 404
    # Nothing tells a foreign trace from one that isn't there.
    for _, body in (foreign, missing):
        body.pop("request_id", None)
    assert foreign == missing
    assert api(f"/traces?session={session}", other)[1]["data"] == []
    assert api(f"/traces?session={session}", "bk_" + "x" * 40)[0] == 401
