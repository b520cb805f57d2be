-- What plugins keep, apart by tenant and plugin. A scope's row counts what it holds, hands out revisions, and is locked
-- by each write, so that quotas hold and a revision is used once.

CREATE TABLE plugin_kv_scopes (
    organization_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    environment_id TEXT NOT NULL,
    plugin_id TEXT NOT NULL,
    key_count INTEGER NOT NULL CHECK (key_count >= 0),
    byte_count INTEGER NOT NULL CHECK (byte_count >= 0),
    revision INTEGER NOT NULL,
    PRIMARY KEY (organization_id, project_id, environment_id, plugin_id),
    FOREIGN KEY (organization_id, project_id, environment_id)
        REFERENCES environments (organization_id, project_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- `size` is the bytes of key and value.
CREATE TABLE plugin_kv (
    organization_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    environment_id TEXT NOT NULL,
    plugin_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    size INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    expires_at TEXT,
    PRIMARY KEY (organization_id, project_id, environment_id, plugin_id, key),
    FOREIGN KEY (organization_id, project_id, environment_id, plugin_id)
        REFERENCES plugin_kv_scopes (organization_id, project_id, environment_id, plugin_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX plugin_kv_expiry ON plugin_kv (organization_id, project_id, environment_id, plugin_id, expires_at)
WHERE expires_at IS NOT NULL;
