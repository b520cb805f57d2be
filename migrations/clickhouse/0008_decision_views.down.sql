DROP VIEW IF EXISTS routing_decisions;

DROP VIEW IF EXISTS request_logs;

-- Requests to the API, without their bodies.
CREATE TABLE IF NOT EXISTS request_logs (
    project_id LowCardinality(String),
    organization_id LowCardinality(String),
    environment_id LowCardinality(String),
    request_id String CODEC(ZSTD(1)),
    time DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    key_id LowCardinality(String),
    method LowCardinality(String),
    path LowCardinality(String),
    status UInt16,
    error_code LowCardinality(String),
    duration_us UInt64 CODEC(T64, ZSTD(1)),
    request_bytes UInt64 CODEC(T64, ZSTD(1)),
    response_bytes UInt64 CODEC(T64, ZSTD(1)),
    user_agent String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (project_id, toStartOfMinute(time), request_id)
TTL toDateTime(time) + INTERVAL 365 DAY
SETTINGS non_replicated_deduplication_window = 1000;

-- Why a call went where it went: the candidates as a JSON list, in the order in which they were to be tried.
CREATE TABLE IF NOT EXISTS routing_decisions (
    project_id LowCardinality(String),
    organization_id LowCardinality(String),
    environment_id LowCardinality(String),
    request_id String CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    time DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    route LowCardinality(String),
    policy LowCardinality(String),
    model_requested LowCardinality(String),
    provider LowCardinality(String),
    connection_id LowCardinality(String),
    model LowCardinality(String),
    reason LowCardinality(String),
    candidates String CODEC(ZSTD(1)),
    attempts UInt16,
    duration_us UInt64 CODEC(T64, ZSTD(1)),
    INDEX routing_decisions_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (project_id, toStartOfMinute(time), request_id)
TTL toDateTime(time) + INTERVAL 365 DAY
SETTINGS non_replicated_deduplication_window = 1000;
