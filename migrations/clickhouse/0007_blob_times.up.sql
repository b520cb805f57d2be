-- When the row began that a blob belongs to: both are deleted by it.
ALTER TABLE blob_storage_file_log ADD COLUMN IF NOT EXISTS time DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1));
