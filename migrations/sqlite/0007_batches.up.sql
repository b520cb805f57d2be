-- Files that projects upload, whose bytes are elsewhere (`blob` is their name there), and batches of calls: what is asked is
-- a file, each line's answer is a row until the batch ends, and then all of them are files. A batch is worked on by whoever
-- has its lease.

CREATE TABLE files (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    filename TEXT NOT NULL,
    purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    blob TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('uploading', 'processed')),
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    UNIQUE (organization_id, id),
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX files_project ON files (organization_id, project_id, id);
CREATE INDEX files_expiry ON files (expires_at);

CREATE TABLE batches (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    environment_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    input_file_id TEXT NOT NULL,
    metadata TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('validating', 'in_progress', 'finalizing', 'cancelling', 'completed', 'failed',
        'expired', 'cancelled')),
    errors TEXT NOT NULL DEFAULT '[]',
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    output_file_id TEXT,
    error_file_id TEXT,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    in_progress_at TEXT,
    finalizing_at TEXT,
    cancelling_at TEXT,
    ended_at TEXT,
    lease_holder TEXT,
    leased_until TEXT,
    UNIQUE (organization_id, id),
    FOREIGN KEY (organization_id, project_id, environment_id)
        REFERENCES environments (organization_id, project_id, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX batches_project ON batches (organization_id, project_id, id);
CREATE INDEX batches_open ON batches (id) WHERE ended_at IS NULL;

CREATE TABLE batch_lines (
    organization_id TEXT NOT NULL,
    batch_id TEXT NOT NULL,
    line INTEGER NOT NULL CHECK (line >= 0),
    succeeded INTEGER NOT NULL,
    result TEXT NOT NULL,
    PRIMARY KEY (organization_id, batch_id, line),
    FOREIGN KEY (organization_id, batch_id) REFERENCES batches (organization_id, id) ON DELETE CASCADE
) STRICT;
