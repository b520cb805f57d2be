"""Log records and metrics in, from OpenTelemetry's own SDK and exporters, unmodified, over HTTP and gRPC."""

import logging
import os
import uuid

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from conftest import BROKLE_URL, KEY, api, eventually

ADDRESS = os.environ["BROKLE_OTLP_GRPC"]
GRPC = {"endpoint": f"http://{ADDRESS}", "insecure": True, "headers": (("x-api-key", KEY),)}
HTTP_HEADERS = {"Authorization": f"Bearer {KEY}"}


def http(path, compression=Compression.NoCompression):
    return {"endpoint": f"{BROKLE_URL}{path}", "headers": HTTP_HEADERS, "compression": compression}


def project():
    _, body = api("/keys")
    return body["data"][0]["project_id"]


def resource():
    return Resource.create({"service.name": uuid.uuid4().hex})


@pytest.mark.parametrize(
    "exporter",
    [
        lambda: OTLPLogExporter(**http("/v1/logs")),
        lambda: OTLPLogExporter(**http("/v1/otlp/logs", Compression.Gzip)),
        lambda: GrpcLogExporter(**GRPC),
        lambda: GrpcLogExporter(**GRPC, compression=grpc.Compression.Gzip),
    ],
    ids=["http", "http-gzip", "grpc", "grpc-gzip"],
)
def test_logs_of_the_sdk(exporter):
    service = resource()
    provider = LoggerProvider(resource=service)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter()))
    logger = logging.getLogger(uuid.uuid4().hex)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(LoggingHandler(logger_provider=provider))
    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        logger.info("all is well")
        logger.error("disk %s is full", "sda", extra={"free": 0})
        trace_id = format(span.get_span_context().trace_id, "032x")
    provider.shutdown()

    path = f"/projects/{project()}/logs?service={service.attributes['service.name']}"

    def both():
        _, body = api(path)
        return body["data"] if len(body["data"]) == 2 else None

    rows = eventually(both)
    assert {row["trace_id"] for row in rows} == {trace_id}
    assert {row["severity_text"] for row in rows} == {"INFO", "ERROR"}
    (error,) = api(f"{path}&severity=error")[1]["data"]
    assert (error["severity_number"], error["attributes"]["free"]) == (17, 0)
    # The project keeps no content: what a log says is withheld, and counted.
    assert {row["body"] for row in rows} == {""}
    assert error["attributes"]["brokle.withheld"] >= 1


@pytest.mark.parametrize(
    "exporter",
    [
        lambda options: OTLPMetricExporter(**http("/v1/metrics"), **options),
        lambda options: OTLPMetricExporter(**http("/v1/otlp/metrics", Compression.Gzip), **options),
        lambda options: GrpcMetricExporter(**GRPC, **options),
    ],
    ids=["http", "http-gzip", "grpc"],
)
def test_metrics_of_the_sdk(exporter):
    service = resource()
    delta = {kind: AggregationTemporality.DELTA for kind in (Counter, Histogram)}
    reader = PeriodicExportingMetricReader(exporter({"preferred_temporality": delta}), export_interval_millis=1e9)
    views = [View(instrument_name="sizes", aggregation=ExponentialBucketHistogramAggregation())]
    provider = MeterProvider([reader], resource=service, views=views)
    name = f"m{uuid.uuid4().hex}"
    meter = provider.get_meter("test")
    requests = meter.create_counter(f"{name}.requests", unit="{request}")
    requests.add(3, {"model": "a"})
    requests.add(4, {"model": "b"})
    meter.create_gauge(f"{name}.load").set(0.25)
    meter.create_histogram(f"{name}.latency", explicit_bucket_boundaries_advisory=[1.0, 2.0]).record(1.5)
    meter.create_histogram("sizes").record(4)
    provider.shutdown()

    base = f"/projects/{project()}/metrics"

    def points(metric, count=1):
        def found():
            _, body = api(f"{base}/points?name={metric}&limit=100")
            mine = [p for p in body["data"] if p["resource"]["service.name"] == service.attributes["service.name"]]
            return mine if len(mine) == count else None

        return eventually(found)

    counted = points(f"{name}.requests", 2)
    assert {p["attributes"]["model"]: p["value"] for p in counted} == {"a": 3, "b": 4}
    assert (counted[0]["kind"], counted[0]["temporality"], counted[0]["is_monotonic"]) == ("sum", "delta", True)
    assert points(f"{name}.load")[0]["value"] == 0.25
    (latency,) = points(f"{name}.latency")
    assert (latency["count"], latency["sum"]) == (1, 1.5)
    assert (latency["bucket_bounds"], latency["bucket_counts"]) == ([1.0, 2.0], [0, 1, 0])
    (sizes,) = points("sizes")
    assert (sizes["kind"], sizes["count"], sum(sizes["bucket_counts"])) == ("histogram", 1, 1)
    _, body = api(f"{base}/series?name={name}.requests")
    assert [row["points"] for row in body["data"]] == [1, 1]
