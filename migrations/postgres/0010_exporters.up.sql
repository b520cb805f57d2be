-- How far each exporter has come with each project's observations. `position` and `pending` are JSON: where to go on, and
-- where the batch ends that is being sent, so that it is the same batch after a crash. Who sends has the lease.

CREATE TABLE exporter_cursors (
    organization_id TEXT COLLATE "C" NOT NULL,
    project_id TEXT COLLATE "C" NOT NULL,
    exporter TEXT COLLATE "C" NOT NULL,
    position TEXT NOT NULL,
    pending TEXT,
    pending_since TIMESTAMPTZ,
    attempts BIGINT NOT NULL DEFAULT 0,
    retry_at TIMESTAMPTZ,
    last_error TEXT,
    exported BIGINT NOT NULL DEFAULT 0,
    rejected BIGINT NOT NULL DEFAULT 0,
    passed_over BIGINT NOT NULL DEFAULT 0,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    lease_holder TEXT COLLATE "C",
    leased_until TIMESTAMPTZ,
    PRIMARY KEY (organization_id, project_id, exporter),
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
);

-- The server (`brokle.system` is `exporters`) finds the projects whose observations are to be exported, and which exporter
-- began when.
ALTER TABLE exporter_cursors ENABLE ROW LEVEL SECURITY;
ALTER TABLE exporter_cursors FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON exporter_cursors USING (organization_id = current_setting('brokle.organization_id', true));
CREATE POLICY system ON exporter_cursors FOR SELECT USING (current_setting('brokle.system', true) = 'exporters');
CREATE POLICY exporters ON projects FOR SELECT USING (current_setting('brokle.system', true) = 'exporters');
