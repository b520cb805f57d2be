-- What answered questions mean, for the semantic cache: the nearest of a project's space leads to an answer. A cache's own: it
-- may be emptied.
CREATE TABLE IF NOT EXISTS semantic_vectors (
    project_id LowCardinality(String),
    space String,
    key String,
    vector Array(Float32) CODEC(NONE),
    expires_at DateTime64(3, 'UTC'),
    written_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(written_at)
ORDER BY (project_id, space, key)
TTL toDateTime(expires_at);
