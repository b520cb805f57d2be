-- What scores of a name must be, in a project. `definition` is a JSON object.

CREATE TABLE score_configs (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    project_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    definition TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    UNIQUE (project_id, name),
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
);

ALTER TABLE score_configs ENABLE ROW LEVEL SECURITY;
ALTER TABLE score_configs FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON score_configs USING (organization_id = current_setting('brokle.organization_id', true));
