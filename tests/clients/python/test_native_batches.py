"""Files and batches that a provider keeps, by OpenAI's client: the provider is a small server of this file's."""

import io
import json
import os

import openai
import pytest

from conftest import api, eventually, make_client
from test_batches import ended, line, results
from vendors import SECRET, Vendor, vendor

OTHER = os.environ["BROKLE_OTHER_PROJECT_KEY"]


class Keeper(Vendor):
    """What a provider says of one file and one batch."""

    def do_POST(self):
        kept, body = self.kept, self.body()
        if self.path == "/v1/files":
            kept["lines"] = b"".join(part + b"\n" for part in body.split(b"\r\n\r\n")[-1].split(b"\n") if part[:1] == b"{")
            self.tell({"id": "file-theirs", "object": "file", "bytes": len(kept["lines"]), "created_at": 1,
                       "filename": "lines.jsonl", "purpose": "batch", "status": "processed"})
        elif self.path == "/v1/batches":
            kept["asked"].append(json.loads(body))
            self.tell(self.batch("validating"))
        elif self.path == "/v1/batches/batch_theirs/cancel":
            kept["cancelled"] = True
            self.tell(self.batch("cancelling"))
        else:
            self.tell({"error": {"message": "unknown"}}, 404)

    def do_GET(self):
        kept = self.kept
        if self.path == "/v1/batches/batch_theirs":
            done = kept.get("done")
            self.tell(self.batch("cancelled" if kept.get("cancelled") else "completed" if done else "in_progress"))
        elif self.path == "/v1/files/file-theirs":
            self.tell({"id": "file-theirs", "object": "file", "bytes": len(kept["lines"]), "status": "processed"})
        elif self.path == "/v1/files/file-theirs/content":
            self.tell(kept["lines"])
        elif self.path == "/v1/files/file-output/content":
            self.tell(b"".join(self.result(json.loads(text)) for text in kept["lines"].splitlines()))
        else:
            self.tell({"error": {"message": "unknown"}}, 404)

    def do_DELETE(self):
        self.kept["deleted"].append(self.path)
        self.tell({"id": "file-theirs", "object": "file", "deleted": True})

    def batch(self, status):
        return {"id": "batch_theirs", "object": "batch", "status": status, "endpoint": "/v1/chat/completions",
                "input_file_id": "file-theirs", "output_file_id": "file-output" if status == "completed" else None,
                "request_counts": {"total": 2, "completed": 2 if status == "completed" else 0, "failed": 0}}

    @staticmethod
    def result(asked):
        message = {"role": "assistant", "content": "by and by"}
        body = {"id": "c", "object": "chat.completion", "model": asked["body"]["model"], "created": 1,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000}}
        return json.dumps({"id": "r", "custom_id": asked["custom_id"], "error": None,
                           "response": {"status_code": 200, "request_id": "r", "body": body}}).encode() + b"\n"

    def tell(self, body, status=200):
        assert self.headers["Authorization"] == f"Bearer {SECRET}"
        self.answer(body, status)


@pytest.fixture
def keeper():
    with vendor(Keeper, "openai", "/v1", asked=[], deleted=[]) as kept_and_name:
        yield kept_and_name


def upload(client, name):
    content = io.BytesIO("\n".join((line("a"), line("b"))).encode())
    return client.files.create(
        file=("lines.jsonl", content), purpose="batch", extra_headers={"x-brokle-provider": name}
    )


def begin(client, file):
    return client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")


def traced(batch):
    """What is accounted for a batch."""

    def found():
        _, listed = api("/traces?limit=50")
        return [one for one in listed["data"] if batch.id in one["tags"]] or None

    (trace,) = eventually(found)
    return trace


def test_a_providers_batch_goes_there_and_comes_back(client, keeper):
    kept, name = keeper
    file = upload(client, name)
    assert (file.purpose, file.bytes) == ("batch", len(kept["lines"])) and file.id != "file-theirs"
    assert client.files.retrieve(file.id).status == "processed"
    assert client.files.content(file.id).read() == kept["lines"]
    assert file.id in [one.id for one in client.files.list(purpose="batch", limit=5)]
    batch = begin(client, file)
    assert (batch.status, batch.input_file_id) == ("validating", file.id)
    assert eventually(lambda: kept["asked"] or None)[0]["input_file_id"] == "file-theirs"
    kept["done"] = True
    done = ended(client, batch)
    assert done.status == "completed" and done.request_counts.completed == 2
    good = results(client, done.output_file_id)
    assert [one["custom_id"] for one in good] == ["a", "b"]
    assert good[0]["response"]["body"]["choices"][0]["message"]["content"] == "by and by"
    trace = traced(batch)
    assert trace["name"] == "batch /v1/chat/completions" and float(trace["cost"]) == 2 * 0.075, trace
    assert client.files.delete(file.id).deleted and kept["deleted"] == ["/v1/files/file-theirs"]


def test_a_providers_batch_is_cancelled_there(client, keeper):
    kept, name = keeper
    batch = begin(client, upload(client, name))
    eventually(lambda: kept["asked"] or None)
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert ended(client, batch).status == "cancelled" and kept["cancelled"]


def test_another_project_neither_sends_nor_sees(client, keeper):
    _, name = keeper
    file = upload(client, name)
    with make_client(OTHER) as stranger:
        for refused in (
            lambda: upload(stranger, name),
            lambda: stranger.files.content(file.id),
            lambda: stranger.files.delete(file.id),
            lambda: begin(stranger, file),
        ):
            with pytest.raises(openai.NotFoundError):
                refused()
