"""Batches that Anthropic works on, by OpenAI's client: the provider is a small server of this file's, which has no files."""

import json

import openai
import pytest

from conftest import eventually, make_client
from test_batches import ended, line, results
from test_native_batches import OTHER, begin, traced, upload
from vendors import SECRET, Vendor, vendor

BATCHES = "/v1/messages/batches"


class Batches(Vendor):
    """One Message Batch, which ends when the test says so."""

    def do_POST(self):
        assert self.path == BATCHES, self.path
        self.kept["requests"] = json.loads(self.body())["requests"]
        self.tell(self.batch())

    def do_GET(self):
        if self.path == f"{BATCHES}/msgbatch_theirs":
            return self.tell(self.batch())
        assert self.path == f"{BATCHES}/msgbatch_theirs/results", self.path
        self.tell("".join(json.dumps(self.result(asked)) + "\n" for asked in self.kept["requests"]).encode())

    def tell(self, body):
        assert self.headers["x-api-key"] == SECRET and self.headers["anthropic-version"]
        self.answer(body)

    def batch(self):
        done, asked = self.kept.get("done"), len(self.kept["requests"])
        counts = {"processing": 0 if done else asked, "succeeded": asked if done else 0, "errored": 0, "canceled": 0, "expired": 0}
        return {"id": "msgbatch_theirs", "type": "message_batch", "processing_status": "ended" if done else "in_progress",
                "request_counts": counts, "cancel_initiated_at": None}

    @staticmethod
    def result(asked):
        usage = {"input_tokens": 1_000_000, "output_tokens": 0}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["params"]["model"], "usage": usage,
                   "content": [{"type": "text", "text": "by and by"}], "stop_reason": "end_turn"}
        return {"custom_id": asked["custom_id"], "result": {"type": "succeeded", "message": message}}


@pytest.fixture
def anthropic():
    with vendor(Batches, "anthropic") as kept_and_name:
        yield kept_and_name


def sent(client, name, *lines):
    content = "\n".join(lines).encode()
    return client.files.create(file=("lines.jsonl", content), purpose="batch", extra_headers={"x-brokle-provider": name})


def test_lines_go_to_anthropic_and_come_back_as_completions(client, anthropic):
    kept, name = anthropic
    lines = [line(one, model="claude-sonnet-4-5", max_tokens=5) for one in ("a", "b")]
    file = sent(client, name, *lines)
    assert client.files.content(file.id).text == "\n".join(lines), "it is kept here"
    batch = begin(client, file)
    requests = eventually(lambda: kept.get("requests"))
    assert [one["custom_id"] for one in requests] == ["a", "b"]
    assert requests[0]["params"]["messages"] == [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    kept["done"] = True
    done = ended(client, batch)
    assert done.status == "completed" and done.request_counts.completed == 2
    good = results(client, done.output_file_id)
    assert [one["custom_id"] for one in good] == ["a", "b"]
    body = good[0]["response"]["body"]
    assert (body["object"], body["choices"][0]["message"]["content"]) == ("chat.completion", "by and by")
    assert float(traced(batch)["cost"]) == 2 * 1.5


def test_a_line_that_cant_go_is_told(client, anthropic):
    kept, name = anthropic
    done = ended(client, begin(client, sent(client, name, line("a"), line("not plain!", model="claude-sonnet-4-5"))))
    assert done.status == "failed" and "requests" not in kept
    assert [(error.line, error.param) for error in done.errors.data] == [(2, "custom_id")]


def test_another_project_neither_sends_nor_sees(client, anthropic):
    _, name = anthropic
    file = sent(client, name, line("a", model="claude-sonnet-4-5"))
    with make_client(OTHER) as stranger:
        for refused in (lambda: upload(stranger, name), lambda: stranger.files.content(file.id), lambda: begin(stranger, file)):
            with pytest.raises(openai.NotFoundError):
                refused()
    with pytest.raises(openai.BadRequestError) as wrong:
        client.files.create(file=("a.txt", b"a"), purpose="user_data", extra_headers={"x-brokle-provider": name})
    assert wrong.value.param == "purpose"
