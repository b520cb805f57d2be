-- Sums of an hour's observations, made again from merged rows whenever some of that hour arrive: a row that comes again, or late,
-- changes nothing that it shouldn't. `built` is the last arrival that an hour's sums know of; the latest sums count. An hour of
-- which later rows have arrived is read from its rows until its sums are made again.
CREATE TABLE IF NOT EXISTS observation_hours (
    project_id LowCardinality(String),
    hour DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    environment_id LowCardinality(String),
    kind LowCardinality(String),
    provider LowCardinality(String),
    model LowCardinality(String),
    count UInt64 CODEC(T64, ZSTD(1)),
    errors UInt64 CODEC(T64, ZSTD(1)),
    input_tokens UInt64 CODEC(T64, ZSTD(1)),
    output_tokens UInt64 CODEC(T64, ZSTD(1)),
    cached_read UInt64 CODEC(T64, ZSTD(1)),
    cache_write UInt64 CODEC(T64, ZSTD(1)),
    reasoning UInt64 CODEC(T64, ZSTD(1)),
    duration_us Float64 CODEC(ZSTD(1)),
    first_token_count UInt64 CODEC(T64, ZSTD(1)),
    first_token_us Float64 CODEC(ZSTD(1)),
    cost Decimal(38, 18) CODEC(ZSTD(1)),
    latency AggregateFunction(quantilesDD(0.005, 0.5, 0.75, 0.9, 0.95, 0.99), Float64) CODEC(ZSTD(1)),
    first_token AggregateFunction(quantilesDD(0.005, 0.5, 0.75, 0.9, 0.95, 0.99), Float64) CODEC(ZSTD(1)),
    built Int64 CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(built)
PARTITION BY toYYYYMM(hour)
ORDER BY (project_id, hour, environment_id, kind, provider, model)
TTL toDateTime(hour) + INTERVAL 365 DAY;

-- Up to which arrival every hour's sums are made: one row.
CREATE TABLE IF NOT EXISTS observation_hours_built (
    id UInt8,
    built Int64
)
ENGINE = ReplacingMergeTree(built)
ORDER BY id;
