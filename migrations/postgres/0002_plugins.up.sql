-- What components there are, what each scope makes of them, what operators granted, and how it came to be so. The
-- components themselves are files (DATA_DIR/plugins/<sha256>.wasm), found by their hash.

-- A version that was seen; also one that was refused, with its code. Not a tenant's: components are the instance's.
CREATE TABLE plugin_versions (
    sha256 TEXT COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(sha256) = 64),
    plugin_id TEXT COLLATE "C" NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('available', 'installed', 'enabled', 'degraded', 'quarantined', 'rejected')),
    code TEXT,
    reason TEXT,
    source TEXT NOT NULL CHECK (source IN ('embedded', 'folder', 'upload', 'oci')),
    reference TEXT NOT NULL,
    level TEXT,
    release_seq BIGINT,
    size BIGINT NOT NULL,
    installed_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX plugin_versions_id ON plugin_versions (plugin_id);

-- The newest release of each id that was ever let in; it outlives the versions, so that none comes back older.
CREATE TABLE plugin_releases (
    plugin_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    highest_seq BIGINT NOT NULL
);

-- What a scope says: the instance (no organization), an organization, or a project. NULL leaves it to the wider scope.
CREATE TABLE plugin_scopes (
    plugin_id TEXT COLLATE "C" NOT NULL,
    organization_id TEXT COLLATE "C" REFERENCES organizations (id) ON DELETE CASCADE,
    project_id TEXT COLLATE "C",
    enabled BOOLEAN,
    sha256 TEXT,
    previous_sha256 TEXT,
    config TEXT,
    updated_at TIMESTAMPTZ NOT NULL,
    CHECK (project_id IS NULL OR organization_id IS NOT NULL),
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX plugin_scopes_owner
    ON plugin_scopes (plugin_id, coalesce(organization_id, ''), coalesce(project_id, ''));

-- What operators let a component do, also ahead of its installation.
CREATE TABLE plugin_grants (
    plugin_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    grants TEXT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

-- Each change, in the transaction of the change: who, why, when.
CREATE TABLE plugin_events (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL,
    plugin_id TEXT COLLATE "C" NOT NULL,
    version TEXT,
    sha256 TEXT,
    organization_id TEXT COLLATE "C" REFERENCES organizations (id) ON DELETE CASCADE,
    project_id TEXT COLLATE "C",
    event TEXT NOT NULL,
    state TEXT,
    code TEXT,
    reason TEXT,
    actor TEXT NOT NULL
);
CREATE INDEX plugin_events_plugin ON plugin_events (plugin_id, id);

INSERT INTO revisions (name, value) VALUES ('plugins', 0);

CREATE TRIGGER plugin_versions_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON plugin_versions
FOR EACH STATEMENT EXECUTE FUNCTION bump_revision('plugins');
CREATE TRIGGER plugin_scopes_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON plugin_scopes
FOR EACH STATEMENT EXECUTE FUNCTION bump_revision('plugins');
CREATE TRIGGER plugin_grants_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON plugin_grants
FOR EACH STATEMENT EXECUTE FUNCTION bump_revision('plugins');

-- An organization sees and writes its own rows. The catalogue (`brokle.system` is `plugins`) reads every scope's rows, since
-- one set of components serves all, and writes those of the instance only.
ALTER TABLE plugin_scopes ENABLE ROW LEVEL SECURITY;
ALTER TABLE plugin_scopes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON plugin_scopes USING (organization_id = current_setting('brokle.organization_id', true));
CREATE POLICY system ON plugin_scopes
    USING (current_setting('brokle.system', true) = 'plugins' AND organization_id IS NULL);
CREATE POLICY catalogue ON plugin_scopes FOR SELECT USING (current_setting('brokle.system', true) = 'plugins');

ALTER TABLE plugin_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE plugin_events FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON plugin_events USING (organization_id = current_setting('brokle.organization_id', true));
CREATE POLICY system ON plugin_events
    USING (current_setting('brokle.system', true) = 'plugins' AND organization_id IS NULL);
