-- Files and batches that a provider keeps: at which connection, and under which name there. A batch that a provider works on
-- is asked about when `poll_at` has come.

ALTER TABLE files ADD COLUMN connection_id TEXT COLLATE "C";
ALTER TABLE files ADD COLUMN vendor_id TEXT COLLATE "C";
ALTER TABLE batches ADD COLUMN connection_id TEXT COLLATE "C";
ALTER TABLE batches ADD COLUMN vendor_id TEXT COLLATE "C";
ALTER TABLE batches ADD COLUMN poll_at TIMESTAMPTZ;
