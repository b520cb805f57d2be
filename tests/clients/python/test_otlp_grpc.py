"""Spans in over gRPC, from OpenTelemetry's own exporter, unmodified."""

import os
import uuid

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from conftest import KEY, eventually, trace
from test_otlp import agent_run, provider

ADDRESS = os.environ["BROKLE_OTLP_GRPC"]


class Watched(OTLPSpanExporter):
    """The exporter, and what it said of each batch."""

    def __init__(self, **options):
        super().__init__(endpoint=f"http://{ADDRESS}", insecure=True, **options)
        self.results = []

    def export(self, spans):
        result = super().export(spans)
        self.results.append(result)
        return result


@pytest.mark.parametrize("header", [("authorization", f"Bearer {KEY}"), ("x-api-key", KEY)], ids=["bearer", "x-api-key"])
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_trace_of_the_sdk(compression, header):
    sender = Watched(headers=(header,), compression=compression)
    tracing = provider(BatchSpanProcessor(sender))
    trace_id = agent_run(tracing, uuid.uuid4().hex)
    tracing.shutdown()
    assert sender.results == [SpanExportResult.SUCCESS]

    def whole():
        root = trace(trace_id)
        return root if len(root["children"]) == 2 else None

    root = eventually(whole)
    chat, tool = root["children"]
    assert (chat["usage"]["input"], chat["cost"], tool["type"]) == (1000, "0.00021", "tool")


def call(key, request, method="Export"):
    """One call, by hand: the answer, or how it failed."""
    with grpc.insecure_channel(ADDRESS) as channel:
        export = channel.unary_unary(
            f"/opentelemetry.proto.collector.trace.v1.TraceService/{method}",
            request_serializer=lambda message: message,
            response_deserializer=ExportTraceServiceResponse.FromString,
        )
        return export(request, metadata=(("authorization", f"Bearer {key}"),), timeout=10)


def refused(key, request=b"", method="Export"):
    with pytest.raises(grpc.RpcError) as error:
        call(key, request, method)
    return error.value.code()


def test_what_is_refused_has_its_code():
    assert refused("bk_" + "x" * 40) == grpc.StatusCode.UNAUTHENTICATED
    assert refused(os.environ["BROKLE_READ_ONLY_KEY"]) == grpc.StatusCode.PERMISSION_DENIED
    assert refused(KEY, b"\xff\xff\xff") == grpc.StatusCode.INVALID_ARGUMENT
    assert refused(KEY, b"", "Import") == grpc.StatusCode.UNIMPLEMENTED


def test_a_bad_span_is_counted_and_an_empty_request_is_fine():
    assert not call(KEY, b"").HasField("partial_success")
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.name, span.trace_id, span.span_id = "bad", b"short", b"12345678"
    answer = call(KEY, request.SerializeToString())
    assert answer.partial_success.rejected_spans == 1
    assert "trace" in answer.partial_success.error_message
