ALTER TABLE blob_storage_file_log DROP COLUMN IF EXISTS time;
