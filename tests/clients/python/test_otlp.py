"""Spans in, from OpenTelemetry's own SDK, unmodified, and from JSON written by hand."""

import gzip
import json
import os
import time
import urllib.error
import urllib.request
import uuid

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import Status, StatusCode, format_trace_id

from conftest import BROKLE_URL, KEY, api, eventually, trace


class Watched(OTLPSpanExporter):
    """The exporter, and what it said of each batch."""

    def __init__(self, **options):
        super().__init__(**options)
        self.results = []

    def export(self, spans):
        result = super().export(spans)
        self.results.append(result)
        return result


def exporter(key=KEY, path="/v1/traces", **options):
    return Watched(endpoint=f"{BROKLE_URL}{path}", headers={"Authorization": f"Bearer {key}"}, **options)


def provider(processor):
    tracing = TracerProvider(resource=Resource.create({"service.name": "shop", "service.version": "1.2.3"}))
    tracing.add_span_processor(processor)
    return tracing


def agent_run(tracing, session):
    """An agent that calls a model and a tool; its trace's id."""
    tracer = tracing.get_tracer("test")
    with tracer.start_as_current_span("plan a trip") as root:
        root.set_attributes({"gen_ai.operation.name": "invoke_agent", "session.id": session, "user.id": "u-1"})
        with tracer.start_as_current_span("chat gpt-4o-mini") as chat:
            chat.set_attributes(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": "gpt-4o-mini",
                    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
                    "gen_ai.response.finish_reasons": ["tool_calls"],
                    "gen_ai.usage.input_tokens": 1000,
                    "gen_ai.usage.output_tokens": 100,
                    "session.id": session,
                }
            )
        with tracer.start_as_current_span("weather") as tool:
            tool.set_attribute("gen_ai.operation.name", "execute_tool")
            tool.set_attribute("error.type", "TimeoutError")
            tool.set_status(Status(StatusCode.ERROR, "too slow"))
        return format_trace_id(root.get_span_context().trace_id)


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/otlp/traces"])
@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
def test_a_trace_of_the_sdk(path, compression):
    session, sender = uuid.uuid4().hex, exporter(path=path, compression=compression)
    tracing = provider(BatchSpanProcessor(sender))
    trace_id = agent_run(tracing, session)
    tracing.shutdown()
    assert sender.results == [SpanExportResult.SUCCESS]

    def whole():
        root = trace(trace_id)
        return root if len(root["children"]) == 2 else None

    root = eventually(whole)
    assert (root["name"], root["type"], root["user"]) == ("plan a trip", "agent", "u-1")
    assert root["attributes"]["otel.resource"]["service.name"] == "shop"
    chat, tool = root["children"]
    assert (chat["type"], chat["provider"], chat["model"]) == ("generation", "openai", "gpt-4o-mini")
    assert (chat["model_served"], chat["finish_reason"]) == ("gpt-4o-mini-2024-07-18", "tool_calls")
    assert (chat["usage"]["input"], chat["usage"]["output"], chat["cost"]) == (1000, 100, "0.00021")
    assert (tool["type"], tool["status"], tool["error"]) == (
        "tool",
        "timeout",
        {"class": "TimeoutError", "message": "too slow"},
    )
    status, page = api(f"/traces?session={session}")
    assert (status, len(page["data"])) == (200, 2)


def test_a_batch_of_thousands():
    sender = exporter()
    tracing = provider(BatchSpanProcessor(sender, max_queue_size=10_000, max_export_batch_size=1_000))
    tracer = tracing.get_tracer("test")
    with tracer.start_as_current_span("root") as root:
        for number in range(3_000):
            tracer.start_span(f"{number}").end()
    tracing.shutdown()
    assert set(sender.results) == {SpanExportResult.SUCCESS}
    trace_id = format_trace_id(root.get_span_context().trace_id)

    def whole():
        status, body = api(f"/traces/{trace_id}")
        roots = body["observations"] if status == 200 else []
        return roots[0] if len(roots) == 1 and len(roots[0]["children"]) == 3_000 else None

    assert {child["name"] for child in eventually(whole, 60)["children"]} == {str(n) for n in range(3_000)}


def test_a_key_without_the_scope_is_told_at_once():
    sender = exporter(key=os.environ["BROKLE_READ_ONLY_KEY"])
    tracing = provider(SimpleSpanProcessor(sender))
    begun = time.monotonic()
    tracing.get_tracer("test").start_span("x").end()
    assert sender.results == [SpanExportResult.FAILURE]
    assert time.monotonic() - begun < 5, "nothing that another try would mend"


def post(body, kind="application/json", key=KEY, **headers):
    request = urllib.request.Request(
        f"{BROKLE_URL}/v1/traces", body, {"Content-Type": kind, "X-API-Key": key, **headers}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def span(trace_id, number, **more):
    now = time.time_ns()
    return {
        "traceId": trace_id,
        "spanId": f"{number:016x}",
        "name": f"{number}",
        "startTimeUnixNano": str(now),
        "endTimeUnixNano": now + 1_000_000,
        **more,
    }


def request_of(*spans):
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}).encode()


def test_json_by_hand():
    trace_id = uuid.uuid4().hex
    body = request_of(
        span(trace_id.upper(), 1, kind="SPAN_KIND_CLIENT"),
        span(trace_id, 2, parentSpanId="0000000000000001", later={"unknown": True}),
        span("nonsense", 3),
    )
    status, head, answer = post(gzip.compress(body), **{"Content-Encoding": "gzip"})
    assert (status, head["Content-Type"]) == (200, "application/json")
    assert json.loads(answer)["partialSuccess"]["rejectedSpans"] == "1"

    def whole():
        root = trace(trace_id)
        return root if root["children"] else None

    root = eventually(whole)
    assert (root["name"], root["attributes"]["otel.kind"]) == ("1", "client")
    # The same again: nothing changes.
    for _ in range(3):
        assert post(body)[0] == 200
    time_ordered = eventually(lambda: trace(trace_id))
    assert [child["name"] for child in time_ordered["children"]] == ["2"]


def test_errors_are_a_status_in_the_encoding_that_was_sent():
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    status, head, answer = post(b"{")
    assert (status, head["Content-Type"], json.loads(answer)["code"]) == (400, "application/json", 3)
    status, head, answer = post(b"\x0a\xff", "application/x-protobuf")
    assert (status, head["Content-Type"]) == (400, "application/x-protobuf")
    # google.rpc.Status: code 3 in field 1, a message in field 2.
    assert answer[:3] == b"\x08\x03\x12"
    assert post(b"{}", "text/plain")[0] == 415
    assert post(b"{}", key="bk_" + "x" * 40)[0] == 401

    bad = b"\x0a\x0a\x12\x08\x12\x06\x2a\x04name"
    status, _, answer = post(bad, "application/x-protobuf")
    response = ExportTraceServiceResponse()
    try:
        response.ParseFromString(answer)
    except DecodeError as error:
        pytest.fail(f"{error}: {answer}")
    assert (status, response.partial_success.rejected_spans) == (200, 1)
    assert "traceId" in response.partial_success.error_message
    status, _, answer = post(b"", "application/x-protobuf")
    assert (status, answer) == (200, b"")
