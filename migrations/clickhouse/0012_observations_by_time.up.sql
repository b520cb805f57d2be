-- Observations in the order of their time, half a MiB to a granule, blocks of 8 to 64 KiB: of a page of the latest and of a trace little more is
-- read than their rows, where up to 8,192 rows with their bodies were read for each of a page's (docs/adr/0011).
--
-- A copy, since the key of a table that is there can't be changed. Whoever breaks off begins again with what is not yet done; a row that
-- is copied twice is one when it is merged. What comes in meanwhile has an arrival (a microsecond by its writer's clock, times
-- 1,024) after the beginning of this, which the history has; an hour is for clocks that differ.

-- only if: SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'observations' AND sorting_key LIKE '%toStartOfMinute%'
CREATE TABLE IF NOT EXISTS observations_by_time (
    project_id LowCardinality(String),
    organization_id LowCardinality(String),
    environment_id LowCardinality(String),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    parent_span_id Nullable(String) CODEC(ZSTD(1)),
    key_id LowCardinality(Nullable(String)),
    request_id Nullable(String) CODEC(ZSTD(1)),
    kind LowCardinality(String),
    name String CODEC(ZSTD(1)),
    operation LowCardinality(String),
    start_time DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    duration_us UInt64 CODEC(T64, ZSTD(1)),
    first_token_us Nullable(UInt64) CODEC(ZSTD(1)),
    provider LowCardinality(Nullable(String)),
    connection_id LowCardinality(Nullable(String)),
    model_requested LowCardinality(Nullable(String)),
    model_served LowCardinality(Nullable(String)),
    usage_known Bool,
    estimated Bool,
    input_tokens UInt64 CODEC(T64, ZSTD(1)),
    output_tokens UInt64 CODEC(T64, ZSTD(1)),
    cached_read UInt64 CODEC(T64, ZSTD(1)),
    cache_write UInt64 CODEC(T64, ZSTD(1)),
    reasoning UInt64 CODEC(T64, ZSTD(1)),
    audio_input UInt64 CODEC(T64, ZSTD(1)),
    audio_output UInt64 CODEC(T64, ZSTD(1)),
    image_input UInt64 CODEC(T64, ZSTD(1)),
    image_output UInt64 CODEC(T64, ZSTD(1)),
    cost Nullable(Decimal(38, 18)) CODEC(ZSTD(1)),
    streaming Bool,
    status LowCardinality(String),
    http_status Nullable(UInt16),
    finish_reason LowCardinality(Nullable(String)),
    error_class LowCardinality(Nullable(String)),
    error_message Nullable(String) CODEC(ZSTD(1)),
    user_id Nullable(String) CODEC(ZSTD(1)),
    session_id Nullable(String) CODEC(ZSTD(1)),
    tags Array(LowCardinality(String)),
    attributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    steps String CODEC(ZSTD(1)),
    input Nullable(String) CODEC(ZSTD(1)),
    output Nullable(String) CODEC(ZSTD(1)),
    arrival Int64 CODEC(DoubleDelta, ZSTD(1)),
    version UInt64 MATERIALIZED toUInt64(9223372036854775807 - arrival) CODEC(DoubleDelta, ZSTD(1)),
    INDEX observations_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX observations_span span_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX observations_request request_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX observations_user user_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX observations_session session_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX observations_arrival arrival TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(start_time)
PRIMARY KEY (project_id, start_time)
ORDER BY (project_id, start_time, xxHash32(trace_id), span_id)
TTL toDateTime(start_time) + INTERVAL 365 DAY
SETTINGS index_granularity_bytes = 524288, min_compress_block_size = 8192, max_compress_block_size = 65536,
    non_replicated_deduplication_window = 1000;

-- only if: SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'observations' AND sorting_key LIKE '%toStartOfMinute%'
INSERT INTO observations_by_time SELECT * FROM observations;

-- only if: SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'observations' AND sorting_key LIKE '%toStartOfMinute%'
INSERT INTO observations_by_time SELECT * FROM observations WHERE arrival >= (
    SELECT (toUnixTimestamp64Micro(min(applied_at)) - 3600000000) * 1024 FROM schema_migrations WHERE version = 12
);

-- only if: SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'observations' AND sorting_key LIKE '%toStartOfMinute%'
RENAME TABLE observations TO observations_by_minute, observations_by_time TO observations;

CREATE TABLE IF NOT EXISTS observations_by_minute AS observations;

INSERT INTO observations SELECT * FROM observations_by_minute WHERE arrival >= (
    SELECT (toUnixTimestamp64Micro(min(applied_at)) - 3600000000) * 1024 FROM schema_migrations WHERE version = 12
);

DROP TABLE IF EXISTS observations_by_minute;

DROP TABLE IF EXISTS observations_by_time;
