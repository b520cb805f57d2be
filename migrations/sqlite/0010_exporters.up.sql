-- How far each exporter has come with each project's observations. `position` and `pending` are JSON: where to go on, and
-- where the batch ends that is being sent, so that it is the same batch after a crash. Who sends has the lease.

CREATE TABLE exporter_cursors (
    organization_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    exporter TEXT NOT NULL,
    position TEXT NOT NULL,
    pending TEXT,
    pending_since TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    retry_at TEXT,
    last_error TEXT,
    exported INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    passed_over INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    lease_holder TEXT,
    leased_until TEXT,
    PRIMARY KEY (organization_id, project_id, exporter),
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
) STRICT;
