-- Everybody's rows: the owner's lock is lifted for it.
ALTER TABLE batches NO FORCE ROW LEVEL SECURITY;
ALTER TABLE files NO FORCE ROW LEVEL SECURITY;
DELETE FROM batches WHERE connection_id IS NOT NULL;
DELETE FROM files WHERE connection_id IS NOT NULL;
ALTER TABLE batches FORCE ROW LEVEL SECURITY;
ALTER TABLE files FORCE ROW LEVEL SECURITY;
ALTER TABLE batches DROP COLUMN poll_at;
ALTER TABLE batches DROP COLUMN vendor_id;
ALTER TABLE batches DROP COLUMN connection_id;
ALTER TABLE files DROP COLUMN vendor_id;
ALTER TABLE files DROP COLUMN connection_id;
