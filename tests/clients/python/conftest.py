"""The actors and the helpers. `../run.sh` starts what they talk to and sets the environment."""

import json
import os
import time
import urllib.error
import urllib.request
import uuid

import openai
import pytest

BROKLE_URL = os.environ["BROKLE_URL"]
UPSTREAM_URL = os.environ["UPSTREAM_URL"]
KEY = os.environ["BROKLE_API_KEY"]

#: What test-upstream answers to everything.
CONTENT = "Héllo 漢字 🙂 from the test upstream."


def make_client(key=KEY, **options):
    """A client that doesn't try again by itself, so that each test sees each answer."""
    options.setdefault("max_retries", 0)
    return openai.OpenAI(base_url=f"{BROKLE_URL}/v1", api_key=key, **options)


def make_async_client(key=KEY, **options):
    options.setdefault("max_retries", 0)
    return openai.AsyncOpenAI(base_url=f"{BROKLE_URL}/v1", api_key=key, **options)


@pytest.fixture
def client():
    with make_client() as client:
        yield client


def user(text):
    return [{"role": "user", "content": text}]


def read(stream):
    """A stream's text and its chunks."""
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    return text, chunks


def call(method, url, body=None, headers=None):
    """A request without any client: status, headers, JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status, head, text = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, head, text = error.code, error.headers, error.read()
    return status, head, json.loads(text) if text else None


def api(path, key=KEY):
    """`GET /api/v1…`: status and JSON."""
    status, _, body = call("GET", f"{BROKLE_URL}/api/v1{path}", headers={"Authorization": f"Bearer {key}"})
    return status, body


def eventually(found, seconds=15.0):
    """What `found` returns as soon as it isn't None."""
    deadline = time.monotonic() + seconds
    while True:
        value = found()
        if value is not None:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def trace(trace_id, key=KEY):
    """A trace, as soon as it is stored: its only root."""

    def found():
        status, body = api(f"/traces/{trace_id}", key)
        return body["observations"] if status == 200 else None

    (root,) = eventually(found)
    return root


class Mark:
    """A header that the gateway passes on to the provider, to find this test's requests there."""

    def __init__(self):
        self.value = uuid.uuid4().hex
        self.headers = {"x-test-mark": self.value}

    def requests(self):
        _, _, seen = call("GET", f"{UPSTREAM_URL}/__requests")
        return [r for r in seen["requests"] if ["x-test-mark", self.value] in r["headers"]]

    def bodies(self):
        return [request["body"] for request in self.requests()]

    def wait_until_left(self, seconds=1.0):
        """The upstream has noticed that its one caller left."""

        def left():
            (request,) = self.requests()
            return request["end"]

        end = eventually(left, seconds)
        assert end["outcome"] == "client-left", end


@pytest.fixture
def mark():
    return Mark()
