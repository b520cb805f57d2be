-- Files that projects upload, whose bytes are elsewhere (`blob` is their name there), and batches of calls: what is asked is
-- a file, each line's answer is a row until the batch ends, and then all of them are files. A batch is worked on by whoever
-- has its lease.

CREATE TABLE files (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL,
    project_id TEXT COLLATE "C" NOT NULL,
    filename TEXT NOT NULL,
    purpose TEXT COLLATE "C" NOT NULL,
    bytes BIGINT NOT NULL CHECK (bytes >= 0),
    blob TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('uploading', 'processed')),
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    UNIQUE (organization_id, id),
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
);
CREATE INDEX files_project ON files (organization_id, project_id, id);
CREATE INDEX files_expiry ON files (expires_at);

CREATE TABLE batches (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL,
    project_id TEXT COLLATE "C" NOT NULL,
    environment_id TEXT COLLATE "C" NOT NULL,
    key_id TEXT COLLATE "C" NOT NULL,
    endpoint TEXT COLLATE "C" NOT NULL,
    input_file_id TEXT COLLATE "C" NOT NULL,
    metadata TEXT NOT NULL,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('validating', 'in_progress', 'finalizing', 'cancelling', 'completed', 'failed',
        'expired', 'cancelled')),
    errors TEXT NOT NULL DEFAULT '[]',
    total BIGINT NOT NULL DEFAULT 0,
    completed BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    output_file_id TEXT COLLATE "C",
    error_file_id TEXT COLLATE "C",
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    in_progress_at TIMESTAMPTZ,
    finalizing_at TIMESTAMPTZ,
    cancelling_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    lease_holder TEXT COLLATE "C",
    leased_until TIMESTAMPTZ,
    UNIQUE (organization_id, id),
    FOREIGN KEY (organization_id, project_id, environment_id)
        REFERENCES environments (organization_id, project_id, id) ON DELETE CASCADE
);
CREATE INDEX batches_project ON batches (organization_id, project_id, id);
CREATE INDEX batches_open ON batches (id) WHERE ended_at IS NULL;

CREATE TABLE batch_lines (
    organization_id TEXT COLLATE "C" NOT NULL,
    batch_id TEXT COLLATE "C" NOT NULL,
    line BIGINT NOT NULL CHECK (line >= 0),
    succeeded BOOLEAN NOT NULL,
    result TEXT NOT NULL,
    PRIMARY KEY (organization_id, batch_id, line),
    FOREIGN KEY (organization_id, batch_id) REFERENCES batches (organization_id, id) ON DELETE CASCADE
);

-- An organization sees and writes its own rows; the server (`brokle.system` is `batches`) finds the batches that are to be
-- worked on and the files that are to be forgotten, whosever they are.
ALTER TABLE files ENABLE ROW LEVEL SECURITY;
ALTER TABLE files FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON files USING (organization_id = current_setting('brokle.organization_id', true));
CREATE POLICY system ON files FOR SELECT USING (current_setting('brokle.system', true) = 'batches');

ALTER TABLE batches ENABLE ROW LEVEL SECURITY;
ALTER TABLE batches FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON batches USING (organization_id = current_setting('brokle.organization_id', true));
CREATE POLICY system ON batches FOR SELECT USING (current_setting('brokle.system', true) = 'batches');

ALTER TABLE batch_lines ENABLE ROW LEVEL SECURITY;
ALTER TABLE batch_lines FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON batch_lines USING (organization_id = current_setting('brokle.organization_id', true));
