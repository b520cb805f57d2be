"""What the `otlp` exporter sends, read by OpenTelemetry's own messages: nothing in it may be unknown to them.

run.sh configures two exporters of it, one for each encoding; each waits for its grant, and takes one session."""

import base64
import json
import threading
from http.server import ThreadingHTTPServer

import pytest
from google.protobuf import json_format
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from conftest import BROKLE_URL, KEY, call, eventually, trace, user
from vendors import Vendor

HEAD = {"Authorization": f"Bearer {KEY}"}
PLUGIN = f"{BROKLE_URL}/api/v1/plugins/brokle.exporter-otlp"


def as_protobuf_has_them(body):
    """Ids are hexadecimal digits in OTLP's JSON, where JSON of protobuf has base64."""
    for of_resource in body["resourceSpans"]:
        for scope in of_resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return body


class BackEnd(Vendor):
    """Takes traces, and says so in the sender's encoding."""

    def do_POST(self):
        request, kind = ExportTraceServiceRequest(), self.headers["Content-Type"]
        if kind == "application/json":
            json_format.ParseDict(as_protobuf_has_them(json.loads(self.body())), request)
            answer = json_format.MessageToJson(ExportTraceServiceResponse()).encode()
        else:
            request.ParseFromString(self.body())
            answer = ExportTraceServiceResponse().SerializeToString()
        self.kept.append((self.path, kind, request))
        self.answer(answer, kind=kind)


@pytest.fixture(scope="module")
def received():
    """A back end that the exporters may send to."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BackEnd) as server:
        server.kept = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hosts = [f"http://127.0.0.1:{server.server_port}"]
        grants = {"http": {"upstreams": {"receiver": {"hosts": hosts}}}, "secrets": {}}
        status, _, body = call("PUT", f"{PLUGIN}/grants", grants, HEAD)
        assert status < 300, body
        yield server.kept
        # It would go on to ask where nobody is any more.
        status, _, body = call("PATCH", PLUGIN, {"enabled": False}, HEAD)
        assert status < 300, body
        server.shutdown()


def unknown(message):
    """What a message holds that the schema doesn't know."""
    found = [(message.DESCRIPTOR.name, field.field_number) for field in UnknownFieldSet(message)]
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for one in value if field.is_repeated else [value]:
                found += unknown(one)
    return found


def plain(value):
    """An `AnyValue` as Python has it."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind else None


def attributes(pairs):
    return {pair.key: plain(pair.value) for pair in pairs}


@pytest.mark.parametrize(("encoding", "kind"), [("protobuf", "application/x-protobuf"), ("json", "application/json")])
def test_opentelemetrys_messages_read_it(client, received, encoding, kind):
    session = f"exported-{encoding}"
    tracing = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    tracing.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{BROKLE_URL}/v1/traces", headers=HEAD)))
    with tracing.get_tracer("test").start_as_current_span("plan a trip") as root:
        root.set_attributes(
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.conversation.id": session,
                "user.id": "Zoë 漢字 🙂",
                "a.count": 2**53 + 1,
                "a.share": 0.5,
                "a.flag": True,
                "brokle.tags": ["x", "y"],
            }
        )
        root.set_status(StatusCode.ERROR, "too slow")
        context = root.get_span_context()
        traceparent = f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-01"
        client.chat.completions.create(
            model="openai/gpt-4o-mini",
            messages=user("one two three"),
            extra_headers={"X-Brokle-Session": session, "traceparent": traceparent},
        )
    tracing.shutdown()

    def sent():
        found = {}
        for path, of, request in received:
            for of_resource in request.resource_spans:
                for scope in of_resource.scope_spans:
                    for span in scope.spans:
                        if span.trace_id.hex() == format_trace_id(context.trace_id):
                            found[span.span_id.hex()] = (path, of, request, of_resource.resource, span)
        by_name = {one[-1].name: one for one in found.values()}
        ours = [one for one in found.values() if one[-1].parent_span_id.hex() == format_span_id(context.span_id)]
        return (found, by_name["plan a trip"], ours[0]) if "plan a trip" in by_name and ours else None

    found, theirs, ours = eventually(sent)
    for path, of, request, resource, _ in found.values():
        assert (path, of) == (f"/{encoding}/v1/traces", kind)
        assert unknown(request) == []
        assert attributes(resource.attributes)["service.name"] == "gateway-calls"

    span = theirs[-1]
    assert span.span_id.hex() == format_span_id(context.span_id)
    assert span.kind == Span.SPAN_KIND_INTERNAL
    # To the microsecond, which is what is stored.
    assert abs(span.start_time_unix_nano - root.start_time) < 1000
    assert abs(span.end_time_unix_nano - root.end_time) < 2000
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "too slow")
    told = attributes(span.attributes)
    assert told["gen_ai.operation.name"] == "invoke_agent"
    assert told["gen_ai.conversation.id"] == session
    assert told["user.id"] == "Zoë 漢字 🙂"
    assert (told["a.count"], told["a.share"], told["a.flag"], told["brokle.tags"]) == (2**53 + 1, 0.5, True, ["x", "y"])

    span = ours[-1]
    stored = trace(format_trace_id(context.trace_id))["children"][0]
    assert span.span_id.hex() == stored["span_id"]
    assert span.kind == Span.SPAN_KIND_CLIENT
    assert span.status.code == Status.STATUS_CODE_UNSET
    told = attributes(span.attributes)
    assert told["gen_ai.request.model"] == stored["model"]
    assert told["gen_ai.provider.name"] == "openai"
    assert told["gen_ai.response.finish_reasons"] == ["stop"]
    assert told["gen_ai.usage.input_tokens"] == stored["usage"]["input"] > 0
    assert told["http.response.status_code"] == 200
    # What happened inside the call is below it.
    inside = [one[-1] for one in found.values() if one[-1].parent_span_id == span.span_id]
    assert inside
    assert all(span.start_time_unix_nano <= one.start_time_unix_nano <= one.end_time_unix_nano for one in inside)
