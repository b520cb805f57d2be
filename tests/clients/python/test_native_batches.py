"""Files and batches that a provider keeps, by OpenAI's client: the provider is a small server of this file's."""

import io
import json
import os
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest

from conftest import BROKLE_URL, KEY, api, call, eventually, make_client, user
from test_batches import ended, line, results

OTHER = os.environ["BROKLE_OTHER_PROJECT_KEY"]


class Keeper(BaseHTTPRequestHandler):
    """What a provider says of one file and one batch."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        kept, body = self.server.kept, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not body and self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if self.path == "/v1/files":
            kept["lines"] = b"".join(part + b"\n" for part in body.split(b"\r\n\r\n")[-1].split(b"\n") if part[:1] == b"{")
            self.answer({"id": "file-theirs", "object": "file", "bytes": len(kept["lines"]), "created_at": 1,
                         "filename": "lines.jsonl", "purpose": "batch", "status": "processed"})
        elif self.path == "/v1/batches":
            kept["asked"].append(json.loads(body))
            self.answer(self.batch("validating"))
        elif self.path == "/v1/batches/batch_theirs/cancel":
            kept["cancelled"] = True
            self.answer(self.batch("cancelling"))
        else:
            self.answer({"error": {"message": "unknown"}}, 404)

    def do_GET(self):
        kept = self.server.kept
        if self.path == "/v1/batches/batch_theirs":
            done = kept.get("done")
            self.answer(self.batch("cancelled" if kept.get("cancelled") else "completed" if done else "in_progress"))
        elif self.path == "/v1/files/file-theirs":
            self.answer({"id": "file-theirs", "object": "file", "bytes": len(kept["lines"]), "status": "processed"})
        elif self.path == "/v1/files/file-theirs/content":
            self.answer(kept["lines"])
        elif self.path == "/v1/files/file-output/content":
            self.answer(b"".join(self.result(json.loads(text)) for text in kept["lines"].splitlines()))
        else:
            self.answer({"error": {"message": "unknown"}}, 404)

    def do_DELETE(self):
        self.server.kept["deleted"].append(self.path)
        self.answer({"id": "file-theirs", "object": "file", "deleted": True})

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

    def answer(self, body, status=200):
        assert self.headers["Authorization"] == "Bearer sk-theirs"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def keeper():
    """A provider, and the name of the connection to it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Keeper) as server:
        server.kept = {"asked": [], "deleted": []}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        name = f"keeper-{uuid.uuid4().hex[:8]}"
        new = {"provider": "openai", "name": name, "secret": "sk-theirs",
               "base_url": f"http://127.0.0.1:{server.server_port}/v1"}
        status, _, made = call("POST", f"{BROKLE_URL}/api/v1/connections?verify=false", new,
                               {"Authorization": f"Bearer {KEY}"})
        assert status in (200, 201), made
        yield server.kept, name
        # Others' calls would go there.
        call("DELETE", f"{BROKLE_URL}/api/v1/connections/{made['id']}", None, {"Authorization": f"Bearer {KEY}"})
        server.shutdown()


def upload(client, name):
    content = io.BytesIO("\n".join((line("a"), line("b"))).encode())
    return client.files.create(
        file=("lines.jsonl", content), purpose="batch", extra_headers={"x-brokle-provider": name}
    )


def begin(client, file):
    return client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")


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

    def traced():
        _, body = api("/traces?limit=50")
        return [one for one in body["data"] if batch.id in one["tags"]] or None

    (trace,) = eventually(traced)
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
