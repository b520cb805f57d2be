-- What plugins keep, apart by tenant and plugin. A scope's row counts what it holds, hands out revisions, and is locked
-- by each write, so that quotas hold and a revision is used once.

CREATE TABLE plugin_kv_scopes (
    organization_id TEXT COLLATE "C" NOT NULL,
    project_id TEXT COLLATE "C" NOT NULL,
    environment_id TEXT COLLATE "C" NOT NULL,
    plugin_id TEXT COLLATE "C" NOT NULL,
    key_count BIGINT NOT NULL CHECK (key_count >= 0),
    byte_count BIGINT NOT NULL CHECK (byte_count >= 0),
    revision BIGINT NOT NULL,
    PRIMARY KEY (organization_id, project_id, environment_id, plugin_id),
    FOREIGN KEY (organization_id, project_id, environment_id)
        REFERENCES environments (organization_id, project_id, id) ON DELETE CASCADE
);

-- `size` is the bytes of key and value.
CREATE TABLE plugin_kv (
    organization_id TEXT COLLATE "C" NOT NULL,
    project_id TEXT COLLATE "C" NOT NULL,
    environment_id TEXT COLLATE "C" NOT NULL,
    plugin_id TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    value BYTEA NOT NULL,
    size BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    expires_at TIMESTAMPTZ,
    PRIMARY KEY (organization_id, project_id, environment_id, plugin_id, key),
    FOREIGN KEY (organization_id, project_id, environment_id, plugin_id)
        REFERENCES plugin_kv_scopes (organization_id, project_id, environment_id, plugin_id) ON DELETE CASCADE
);
CREATE INDEX plugin_kv_expiry ON plugin_kv (organization_id, project_id, environment_id, plugin_id, expires_at)
WHERE expires_at IS NOT NULL;

ALTER TABLE plugin_kv_scopes ENABLE ROW LEVEL SECURITY;
ALTER TABLE plugin_kv_scopes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON plugin_kv_scopes USING (organization_id = current_setting('brokle.organization_id', true));

ALTER TABLE plugin_kv ENABLE ROW LEVEL SECURITY;
ALTER TABLE plugin_kv FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON plugin_kv USING (organization_id = current_setting('brokle.organization_id', true));
