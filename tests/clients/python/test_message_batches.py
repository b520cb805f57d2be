"""Batches that Anthropic works on, by OpenAI's client: the provider is a small server of this file's, which has no files."""

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest

from conftest import BROKLE_URL, KEY, api, call, eventually, make_client
from test_batches import ended, line, results
from test_native_batches import OTHER, begin, upload

BATCHES = "/v1/messages/batches"


class Batches(BaseHTTPRequestHandler):
    """One Message Batch, which ends when the test says so."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        assert self.path == BATCHES, self.path
        self.server.kept["requests"] = json.loads(body)["requests"]
        self.answer(self.batch())

    def do_GET(self):
        if self.path == f"{BATCHES}/msgbatch_theirs":
            return self.answer(self.batch())
        assert self.path == f"{BATCHES}/msgbatch_theirs/results", self.path
        return self.answer("".join(json.dumps(self.result(asked)) + "\n" for asked in self.server.kept["requests"]))

    def batch(self):
        done, asked = self.server.kept.get("done"), len(self.server.kept["requests"])
        counts = {"processing": 0 if done else asked, "succeeded": asked if done else 0, "errored": 0, "canceled": 0, "expired": 0}
        return {"id": "msgbatch_theirs", "type": "message_batch", "processing_status": "ended" if done else "in_progress",
                "request_counts": counts, "cancel_initiated_at": None}

    @staticmethod
    def result(asked):
        usage = {"input_tokens": 1_000_000, "output_tokens": 0}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["params"]["model"], "usage": usage,
                   "content": [{"type": "text", "text": "by and by"}], "stop_reason": "end_turn"}
        return {"custom_id": asked["custom_id"], "result": {"type": "succeeded", "message": message}}

    def answer(self, body):
        assert self.headers["x-api-key"] == "sk-theirs" and self.headers["anthropic-version"]
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def anthropic():
    """A provider, and the name of the connection to it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Batches) as server:
        server.kept = {}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        name = f"anthropic-{uuid.uuid4().hex[:8]}"
        new = {"provider": "anthropic", "name": name, "secret": "sk-theirs",
               "base_url": f"http://127.0.0.1:{server.server_port}"}
        head = {"Authorization": f"Bearer {KEY}"}
        status, _, made = call("POST", f"{BROKLE_URL}/api/v1/connections?verify=false", new, head)
        assert status in (200, 201), made
        yield server.kept, name
        # Others' calls would go there.
        call("DELETE", f"{BROKLE_URL}/api/v1/connections/{made['id']}", None, head)
        server.shutdown()


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

    def traced():
        _, listed = api("/traces?limit=50")
        return [one for one in listed["data"] if batch.id in one["tags"]] or None

    (trace,) = eventually(traced)
    assert float(trace["cost"]) == 2 * 1.5, trace


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
