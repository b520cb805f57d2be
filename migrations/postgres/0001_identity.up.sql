-- Who is there: organizations, their projects and environments, the keys that call for them, and the connections that
-- they call providers with. Ids are ULIDs, compared byte by byte (COLLATE "C"), so that they sort as in SQLite.

CREATE TABLE organizations (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    slug TEXT NOT NULL UNIQUE,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

-- `UNIQUE (organization_id, id)` is what a row further down refers to, so that it can't name one organization and the
-- project of another.
CREATE TABLE projects (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    capture TEXT NOT NULL DEFAULT 'metadata' CHECK (capture IN ('full', 'metadata', 'off')),
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    UNIQUE (organization_id, id),
    UNIQUE (organization_id, name)
);

CREATE TABLE environments (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL,
    project_id TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    UNIQUE (organization_id, project_id, id),
    UNIQUE (project_id, name),
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
);

-- `key_hash` is the SHA-256 of the key, which itself is nowhere; `scopes` is a JSON array of strings.
CREATE TABLE api_keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL,
    project_id TEXT COLLATE "C" NOT NULL,
    environment_id TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    key_hash BYTEA NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    preview TEXT NOT NULL,
    scopes TEXT NOT NULL,
    requests_per_minute BIGINT CHECK (requests_per_minute BETWEEN 1 AND 4294967295),
    expires_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    FOREIGN KEY (organization_id, project_id, environment_id)
        REFERENCES environments (organization_id, project_id, id) ON DELETE CASCADE
);
CREATE INDEX api_keys_owner ON api_keys (organization_id, project_id, environment_id, id);

-- Without a project a connection serves the whole organization. `options` and `headers` are JSON objects;
-- `secret_ciphertext` is sealed (AES-256-GCM) with the organization's and the connection's id as associated data.
CREATE TABLE connections (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    project_id TEXT COLLATE "C",
    provider TEXT NOT NULL,
    name TEXT NOT NULL,
    base_url TEXT,
    secret_ciphertext BYTEA,
    secret_preview TEXT,
    options TEXT NOT NULL,
    headers TEXT NOT NULL,
    priority INTEGER NOT NULL,
    weight INTEGER NOT NULL CHECK (weight >= 0),
    enabled BOOLEAN NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX connections_owner_name ON connections (organization_id, coalesce(project_id, ''), name);

-- One number per cached set of rows. Triggers count it up in the transaction of the change itself, so that no writer,
-- not even a person with an SQL shell, can change a key and leave the servers' caches believing the old one.
CREATE TABLE revisions (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO revisions (name, value) VALUES ('identity', 0), ('connections', 0);

CREATE FUNCTION bump_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE revisions SET value = value + 1 WHERE name = TG_ARGV[0];
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_changed
AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF id, organization_id, project_id, environment_id, name, key_hash, scopes,
    requests_per_minute, expires_at, revoked_at ON api_keys
FOR EACH STATEMENT EXECUTE FUNCTION bump_revision('identity');
CREATE TRIGGER projects_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON projects
FOR EACH STATEMENT EXECUTE FUNCTION bump_revision('identity');
CREATE TRIGGER connections_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON connections
FOR EACH STATEMENT EXECUTE FUNCTION bump_revision('connections');

-- The second lock behind the tenant that every query names: a statement sees the rows of the organization that its
-- transaction has set in `brokle.organization_id`, and without the setting none. FORCE holds the tables' owner to it
-- too; only superusers and roles with BYPASSRLS pass, which the server warns about at its start.
--
-- Two errands come before the organization is known, and each gets exactly the reading that it needs while
-- `brokle.system` names it; neither may write without naming the organization:
--   key_lookup  who a presented API key belongs to: api_keys, projects;
--   bootstrap   is the default organization there, is there any key at all.
ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE organizations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON organizations USING (id = current_setting('brokle.organization_id', true));
CREATE POLICY system ON organizations FOR SELECT USING (current_setting('brokle.system', true) = 'bootstrap');

ALTER TABLE projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE projects FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON projects USING (organization_id = current_setting('brokle.organization_id', true));
CREATE POLICY system ON projects FOR SELECT USING (current_setting('brokle.system', true) = 'key_lookup');

ALTER TABLE environments ENABLE ROW LEVEL SECURITY;
ALTER TABLE environments FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON environments USING (organization_id = current_setting('brokle.organization_id', true));

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON api_keys USING (organization_id = current_setting('brokle.organization_id', true));
CREATE POLICY system ON api_keys FOR SELECT
    USING (current_setting('brokle.system', true) IN ('key_lookup', 'bootstrap'));

ALTER TABLE connections ENABLE ROW LEVEL SECURITY;
ALTER TABLE connections FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON connections USING (organization_id = current_setting('brokle.organization_id', true));
