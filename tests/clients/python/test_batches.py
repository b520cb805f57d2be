"""`/v1/files` and `/v1/batches` by OpenAI's client: files of calls that are made by and by."""

import io
import json
import os
import uuid

import openai
import pytest

from conftest import CONTENT, api, eventually, make_client, user

OTHER = os.environ["BROKLE_OTHER_PROJECT_KEY"]
ENDED = ("completed", "failed", "cancelled", "expired")


def line(custom_id, model="gpt-4o-mini", url="/v1/chat/completions", **body):
    body = {"model": model, "messages": user("hi"), **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def upload(client, *lines, name="lines.jsonl"):
    content = io.BytesIO("\n".join(lines).encode())
    return client.files.create(file=(name, content), purpose="batch")


def ended(client, batch):
    def found():
        now = client.batches.retrieve(batch.id)
        return now if now.status in ENDED else None

    return eventually(found, 30)


def results(client, file_id):
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()]


def test_a_file_comes_back_as_it_went(client):
    content = "Hé 漢字 🙂\r\n".encode() * 1000
    made = client.files.create(file=("ünïcode.txt", io.BytesIO(content)), purpose="user_data")
    assert (made.object, made.bytes, made.purpose, made.status) == ("file", len(content), "user_data", "processed")
    assert client.files.content(made.id).read() == content
    assert client.files.retrieve(made.id).id == made.id
    listed = [file.id for file in client.files.list(purpose="user_data", limit=1)]
    assert made.id in listed, "over all pages"
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)


def test_a_batch_is_answered(client):
    file = upload(client, line("a"), line("b", model="no-such-model"), line("c"))
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"why": "a test"},
    )
    assert batch.object == "batch" and batch.status in ("validating", "in_progress")
    done = ended(client, batch)
    assert done.status == "completed", done
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (3, 2, 1)
    assert done.metadata == {"why": "a test"} and done.completed_at >= done.in_progress_at
    good = results(client, done.output_file_id)
    assert [one["custom_id"] for one in good] == ["a", "c"]
    assert good[0]["response"]["body"]["choices"][0]["message"]["content"] == CONTENT
    (bad,) = results(client, done.error_file_id)
    assert bad["custom_id"] == "b" and bad["response"]["body"]["error"]["code"] == "model_not_found"
    assert batch.id in [one.id for one in client.batches.list(limit=2)]

    def traced():
        status, body = api("/traces?limit=50")
        calls = [one for one in body["data"] if batch.id in one["tags"]]
        return calls if status == 200 and len(calls) == 3 else None

    eventually(traced)


def test_responses_and_embeddings_go_by_batch_too(client):
    for url, body in (
        ("/v1/responses", {"model": "echo-1", "input": "hi"}),
        ("/v1/embeddings", {"model": "echo-embedding", "input": "hi"}),
    ):
        request = json.dumps({"custom_id": "a", "method": "POST", "url": url, "body": body})
        batch = client.batches.create(
            input_file_id=upload(client, request).id, endpoint=url, completion_window="24h"
        )
        done = ended(client, batch)
        assert (done.status, done.request_counts.completed) == ("completed", 1), results(client, done.error_file_id)


def test_a_wrong_file_says_where(client):
    batch = client.batches.create(
        input_file_id=upload(client, line("a"), "nonsense", line("a")).id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
    )
    done = ended(client, batch)
    assert done.status == "failed" and done.output_file_id is None
    told = [(error.code, error.line) for error in done.errors.data]
    assert told == [("invalid_json_line", 2), ("duplicate_custom_id", 3)]


def test_a_batch_is_cancelled(client):
    slow = f"misbehaving/gpt-4o-mini!slow-head=1500;{uuid.uuid4().hex[:6]}"
    lines = [line(str(number), model=slow) for number in range(40)]
    batch = client.batches.create(
        input_file_id=upload(client, *lines).id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    cancelled = client.batches.cancel(batch.id)
    assert cancelled.status == "cancelling"
    done = ended(client, batch)
    assert done.status == "cancelled" and done.request_counts.completed < 40
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_another_project_sees_nothing_of_it(client):
    file = upload(client, line("a"))
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    with make_client(OTHER) as stranger:
        for refused in (
            lambda: stranger.files.retrieve(file.id),
            lambda: stranger.files.content(file.id),
            lambda: stranger.files.delete(file.id),
            lambda: stranger.batches.retrieve(batch.id),
            lambda: stranger.batches.cancel(batch.id),
            lambda: stranger.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            ),
        ):
            with pytest.raises(openai.NotFoundError):
                refused()
        assert file.id not in [one.id for one in stranger.files.list()]
        assert batch.id not in [one.id for one in stranger.batches.list()]
    ended(client, batch)


def test_what_cant_be_kept_is_refused(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("f", b"x"), purpose="world-domination")
    assert caught.value.param == "purpose"
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(input_file_id="file-x", endpoint="/v1/images/edits", completion_window="24h")
    assert caught.value.param == "endpoint"
