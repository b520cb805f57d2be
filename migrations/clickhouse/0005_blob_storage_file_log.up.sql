-- Which files in blob storage belong to which row, so that they can be read with it and deleted with it.
CREATE TABLE IF NOT EXISTS blob_storage_file_log (
    project_id LowCardinality(String),
    entity_type LowCardinality(String),
    entity_id String CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    field LowCardinality(String),
    bucket LowCardinality(String),
    path String CODEC(ZSTD(1)),
    bytes UInt64 CODEC(T64, ZSTD(1)),
    sha256 String CODEC(ZSTD(1)),
    created_at DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    version UInt64,
    is_deleted UInt8
)
ENGINE = ReplacingMergeTree(version, is_deleted)
ORDER BY (project_id, entity_type, entity_id, field)
TTL toDateTime(created_at) + INTERVAL 365 DAY;
