-- What people, evaluators and programs thought: the last row of an id counts, and one with is_deleted takes it away.
-- '' where a score isn't about a trace, an observation or a session.
CREATE TABLE IF NOT EXISTS quality_scores (
    project_id LowCardinality(String),
    id String CODEC(ZSTD(1)),
    environment_id LowCardinality(String),
    name LowCardinality(String),
    data_type LowCardinality(String),
    value Nullable(Float64),
    text Nullable(String) CODEC(ZSTD(3)),
    source LowCardinality(String),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    comment Nullable(String) CODEC(ZSTD(3)),
    metadata Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    timestamp DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    created_at DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    updated_at DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    version UInt64,
    is_deleted UInt8,
    INDEX quality_scores_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX quality_scores_session session_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, id)
TTL toDateTime(timestamp) + INTERVAL 365 DAY;
