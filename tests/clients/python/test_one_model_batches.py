"""Batches that Gemini works on, one model's each, by OpenAI's client: the provider is a small server of this file's."""

import json

import pytest

from conftest import eventually
from test_batches import ended, line, results
from test_message_batches import sent
from test_native_batches import begin, traced
from vendors import SECRET, Vendor, vendor

MODEL = "gemini-2.5-flash"
BATCH = "/v1beta/batches/theirs"


class Batches(Vendor):
    """One batch, which ends when the test says so."""

    def do_POST(self):
        assert self.path == f"/v1beta/models/{MODEL}:batchGenerateContent?fields=name,done,error", self.path
        self.kept["batch"] = json.loads(self.body())["batch"]
        self.tell({"name": "batches/theirs"})

    def do_GET(self):
        if self.path == f"{BATCH}?fields=name,done,error":
            return self.tell({"name": "batches/theirs", "done": bool(self.kept.get("done"))})
        assert self.path == f"{BATCH}?fields=response", self.path
        asked = self.kept["batch"]["inputConfig"]["requests"]["requests"]
        self.tell({"response": {"inlinedResponses": {"inlinedResponses": [self.result(one) for one in reversed(asked)]}}})

    def do_DELETE(self):
        self.kept["deleted"] = self.path
        self.tell({})

    def tell(self, body):
        assert self.headers["x-goog-api-key"] == SECRET
        self.answer(body)

    @staticmethod
    def result(asked):
        content = {"role": "model", "parts": [{"text": "by and by"}]}
        usage = {"promptTokenCount": 1_000_000, "candidatesTokenCount": 0, "totalTokenCount": 1_000_000}
        answer = {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": usage, "modelVersion": MODEL}
        return {"response": answer, "metadata": asked["metadata"]}


@pytest.fixture
def gemini():
    with vendor(Batches, "gemini") as kept_and_name:
        yield kept_and_name


def test_lines_go_to_gemini_and_come_back_as_completions(client, gemini):
    kept, name = gemini
    batch = begin(client, sent(client, name, *(line(one, model=MODEL) for one in ("a", "b"))))
    asked = eventually(lambda: kept.get("batch"))
    assert asked["displayName"] == batch.id
    requests = asked["inputConfig"]["requests"]["requests"]
    assert [one["metadata"]["key"] for one in requests] == ["a", "b"]
    assert requests[0]["request"]["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]
    kept["done"] = True
    done = ended(client, batch)
    assert (done.status, done.request_counts.total, done.request_counts.completed) == ("completed", 2, 2)
    good = results(client, done.output_file_id)
    assert [one["custom_id"] for one in good] == ["b", "a"]
    body = good[0]["response"]["body"]
    assert (body["object"], body["choices"][0]["message"]["content"]) == ("chat.completion", "by and by")
    assert float(traced(batch)["cost"]) == 2 * 0.15
    assert client.files.delete(done.output_file_id).deleted and kept["deleted"] == BATCH


def test_a_line_of_another_model_is_told(client, gemini):
    kept, name = gemini
    lines = (line("a", model=MODEL), line("b", model="gemini-2.5-pro"))
    done = ended(client, begin(client, sent(client, name, *lines)))
    assert done.status == "failed" and "batch" not in kept
    assert [(error.line, error.code) for error in done.errors.data] == [(2, "mismatched_model")]
