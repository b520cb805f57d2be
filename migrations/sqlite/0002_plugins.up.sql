-- What components there are, what each scope makes of them, what operators granted, and how it came to be so. The
-- components themselves are files (DATA_DIR/plugins/<sha256>.wasm), found by their hash.

-- A version that was seen; also one that was refused, with its code. Not a tenant's: components are the instance's.
CREATE TABLE plugin_versions (
    sha256 TEXT NOT NULL PRIMARY KEY CHECK (length(sha256) = 64),
    plugin_id TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('available', 'installed', 'enabled', 'degraded', 'quarantined', 'rejected')),
    code TEXT,
    reason TEXT,
    source TEXT NOT NULL CHECK (source IN ('embedded', 'folder', 'upload', 'oci')),
    reference TEXT NOT NULL,
    level TEXT,
    release_seq INTEGER,
    size INTEGER NOT NULL,
    installed_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;
CREATE INDEX plugin_versions_id ON plugin_versions (plugin_id);

-- The newest release of each id that was ever let in; it outlives the versions, so that none comes back older.
CREATE TABLE plugin_releases (
    plugin_id TEXT NOT NULL PRIMARY KEY,
    highest_seq INTEGER NOT NULL
) STRICT;

-- What a scope says: the instance (no organization), an organization, or a project. NULL leaves it to the wider scope.
CREATE TABLE plugin_scopes (
    plugin_id TEXT NOT NULL,
    organization_id TEXT REFERENCES organizations (id) ON DELETE CASCADE,
    project_id TEXT,
    enabled INTEGER CHECK (enabled IN (0, 1)),
    sha256 TEXT,
    previous_sha256 TEXT,
    config TEXT,
    updated_at TEXT NOT NULL,
    CHECK (project_id IS NULL OR organization_id IS NOT NULL),
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX plugin_scopes_owner
    ON plugin_scopes (plugin_id, coalesce(organization_id, ''), coalesce(project_id, ''));

-- What operators let a component do, also ahead of its installation.
CREATE TABLE plugin_grants (
    plugin_id TEXT NOT NULL PRIMARY KEY,
    grants TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;

-- Each change, in the transaction of the change: who, why, when.
CREATE TABLE plugin_events (
    id TEXT NOT NULL PRIMARY KEY,
    at TEXT NOT NULL,
    plugin_id TEXT NOT NULL,
    version TEXT,
    sha256 TEXT,
    organization_id TEXT REFERENCES organizations (id) ON DELETE CASCADE,
    project_id TEXT,
    event TEXT NOT NULL,
    state TEXT,
    code TEXT,
    reason TEXT,
    actor TEXT NOT NULL
) STRICT;
CREATE INDEX plugin_events_plugin ON plugin_events (plugin_id, id);

INSERT INTO revisions (name, value) VALUES ('plugins', 0);

CREATE TRIGGER plugin_versions_inserted AFTER INSERT ON plugin_versions
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'plugins'; END;
CREATE TRIGGER plugin_versions_updated AFTER UPDATE ON plugin_versions
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'plugins'; END;
CREATE TRIGGER plugin_versions_deleted AFTER DELETE ON plugin_versions
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'plugins'; END;
CREATE TRIGGER plugin_scopes_inserted AFTER INSERT ON plugin_scopes
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'plugins'; END;
CREATE TRIGGER plugin_scopes_updated AFTER UPDATE ON plugin_scopes
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'plugins'; END;
CREATE TRIGGER plugin_scopes_deleted AFTER DELETE ON plugin_scopes
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'plugins'; END;
CREATE TRIGGER plugin_grants_inserted AFTER INSERT ON plugin_grants
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'plugins'; END;
CREATE TRIGGER plugin_grants_updated AFTER UPDATE ON plugin_grants
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'plugins'; END;
CREATE TRIGGER plugin_grants_deleted AFTER DELETE ON plugin_grants
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'plugins'; END;
