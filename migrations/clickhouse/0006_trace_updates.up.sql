-- What is said of traces after the fact (tags, user, bookmark), a row for each member: the last one counts.
CREATE TABLE IF NOT EXISTS trace_updates (
    project_id LowCardinality(String),
    trace_id String CODEC(ZSTD(1)),
    member LowCardinality(String),
    tags Array(String) CODEC(ZSTD(1)),
    text Nullable(String) CODEC(ZSTD(1)),
    flag Bool,
    updated_at DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (project_id, trace_id, member)
TTL toDateTime(updated_at) + INTERVAL 365 DAY;
