DELETE FROM batches WHERE connection_id IS NOT NULL;
DELETE FROM files WHERE connection_id IS NOT NULL;
ALTER TABLE batches DROP COLUMN poll_at;
ALTER TABLE batches DROP COLUMN vendor_id;
ALTER TABLE batches DROP COLUMN connection_id;
ALTER TABLE files DROP COLUMN vendor_id;
ALTER TABLE files DROP COLUMN connection_id;
