-- OpenTelemetry's metrics: a data point per row; series is the hash of its attributes and resource.
CREATE TABLE IF NOT EXISTS metrics (
    project_id LowCardinality(String),
    organization_id LowCardinality(String),
    environment_id LowCardinality(String),
    name LowCardinality(String),
    description String CODEC(ZSTD(1)),
    unit LowCardinality(String),
    kind LowCardinality(String),
    temporality LowCardinality(String),
    is_monotonic Bool,
    series UInt64,
    start_time DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    time DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    value Nullable(Float64) CODEC(ZSTD(1)),
    count UInt64 CODEC(T64, ZSTD(1)),
    sum Float64 CODEC(ZSTD(1)),
    min Nullable(Float64) CODEC(ZSTD(1)),
    max Nullable(Float64) CODEC(ZSTD(1)),
    bucket_bounds Array(Float64) CODEC(ZSTD(1)),
    bucket_counts Array(UInt64) CODEC(ZSTD(1)),
    attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    resource Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    scope LowCardinality(String)
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (project_id, name, series, time)
TTL toDateTime(time) + INTERVAL 365 DAY
SETTINGS non_replicated_deduplication_window = 1000;

-- OpenTelemetry's log records; id tells two of the same moment apart.
CREATE TABLE IF NOT EXISTS logs (
    project_id LowCardinality(String),
    organization_id LowCardinality(String),
    environment_id LowCardinality(String),
    id String CODEC(ZSTD(1)),
    time DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    observed_time DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    severity_number UInt8,
    severity_text LowCardinality(String),
    event_name LowCardinality(String),
    body String CODEC(ZSTD(3)),
    attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    resource Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    scope LowCardinality(String),
    INDEX logs_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (project_id, toStartOfMinute(time), time, id)
TTL toDateTime(time) + INTERVAL 365 DAY
SETTINGS non_replicated_deduplication_window = 1000;
