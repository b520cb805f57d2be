"""OpenLIT, unmodified: it instruments OpenAI's client, and its spans come here. It changes the whole process, so it has one of its own."""

import json
import subprocess
import sys
import uuid

import pytest

from conftest import BROKLE_URL, KEY, UPSTREAM_URL, api, eventually

PROGRAM = """
import openlit, openai, os, sys
from opentelemetry import trace

at, key, upstream, prices = sys.argv[1:5]
openlit.init(otlp_endpoint=at, otlp_headers={"x-api-key": key}, application_name="shop", environment="test",
    disable_metrics=True, pricing_json=prices)
client = openai.OpenAI(base_url=upstream + "/v1", api_key="sk-test", max_retries=0)
messages = [{"role": "user", "content": "Weather?"}]
name = sys.argv[5]
with trace.get_tracer("test").start_as_current_span(name) as root:
    client.chat.completions.create(model="gpt-4o-mini", messages=messages, temperature=0.5)
    for _ in client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True,
            stream_options={"include_usage": True}):
        pass
    print(format(root.get_span_context().trace_id, "032x"))
trace.get_tracer_provider().shutdown()
"""


@pytest.fixture
def prices(tmp_path):
    """It would fetch its own from elsewhere."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"chat": {}, "embeddings": {}, "images": {}, "audio": {}}))
    return path


def test_its_spans_are_generations_with_tokens_and_our_price(prices):
    name = uuid.uuid4().hex
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, BROKLE_URL, KEY, UPSTREAM_URL, str(prices), name],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    trace_id = run.stdout.split()[-1]

    def whole():
        status, body = api(f"/traces/{trace_id}")
        roots = body["observations"] if status == 200 else []
        found = [root for root in roots if root["name"] == name]
        return found[0] if found and len(found[0]["children"]) == 2 else None

    root = eventually(whole)
    assert root["attributes"]["otel.resource"]["service.name"] == "shop"
    for call, streaming in zip(root["children"], [False, True]):
        assert (call["type"], call["provider"], call["model"]) == ("generation", "openai", "gpt-4o-mini"), call
        assert call["usage"]["input"] > 0 and call["usage"]["output"] > 0, call
        assert float(call["cost"]) > 0, call
        assert call["streaming"] == streaming
        assert "Weather?" in json.dumps(call["input"]) and call["output"], call
