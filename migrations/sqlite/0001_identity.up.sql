-- Who is there: organizations, their projects and environments, the keys that call for them, and the connections that
-- they call providers with. Ids are ULIDs; times are RFC 3339 texts in UTC, whose order is the times' order.

CREATE TABLE organizations (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    slug TEXT NOT NULL UNIQUE,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;

-- `UNIQUE (organization_id, id)` is what a row further down refers to, so that it can't name one organization and the
-- project of another.
CREATE TABLE projects (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    capture TEXT NOT NULL DEFAULT 'metadata' CHECK (capture IN ('full', 'metadata', 'off')),
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    UNIQUE (organization_id, id),
    UNIQUE (organization_id, name)
) STRICT;

CREATE TABLE environments (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL,
    UNIQUE (organization_id, project_id, id),
    UNIQUE (project_id, name),
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
) STRICT;

-- `key_hash` is the SHA-256 of the key, which itself is nowhere; `scopes` is a JSON array of strings.
CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    environment_id TEXT NOT NULL,
    name TEXT NOT NULL,
    key_hash BLOB NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    preview TEXT NOT NULL,
    scopes TEXT NOT NULL,
    requests_per_minute INTEGER CHECK (requests_per_minute BETWEEN 1 AND 4294967295),
    expires_at TEXT,
    revoked_at TEXT,
    last_used_at TEXT,
    created_at TEXT NOT NULL,
    FOREIGN KEY (organization_id, project_id, environment_id)
        REFERENCES environments (organization_id, project_id, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX api_keys_owner ON api_keys (organization_id, project_id, environment_id, id);

-- Without a project a connection serves the whole organization. `options` and `headers` are JSON objects;
-- `secret_ciphertext` is sealed (AES-256-GCM) with the organization's and the connection's id as associated data.
CREATE TABLE connections (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    project_id TEXT,
    provider TEXT NOT NULL,
    name TEXT NOT NULL,
    base_url TEXT,
    secret_ciphertext BLOB,
    secret_preview TEXT,
    options TEXT NOT NULL,
    headers TEXT NOT NULL,
    priority INTEGER NOT NULL,
    weight INTEGER NOT NULL CHECK (weight >= 0),
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX connections_owner_name ON connections (organization_id, coalesce(project_id, ''), name);

-- One number per cached set of rows. Triggers count it up in the transaction of the change itself, so that no writer,
-- not even a person with an SQL shell, can change a key and leave the servers' caches believing the old one.
CREATE TABLE revisions (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO revisions (name, value) VALUES ('identity', 0), ('connections', 0);

CREATE TRIGGER api_keys_inserted AFTER INSERT ON api_keys
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'identity'; END;
CREATE TRIGGER api_keys_updated
AFTER UPDATE OF id, organization_id, project_id, environment_id, name, key_hash, scopes, requests_per_minute,
    expires_at, revoked_at ON api_keys
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'identity'; END;
CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'identity'; END;

CREATE TRIGGER projects_inserted AFTER INSERT ON projects
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'identity'; END;
CREATE TRIGGER projects_updated AFTER UPDATE ON projects
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'identity'; END;
CREATE TRIGGER projects_deleted AFTER DELETE ON projects
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'identity'; END;

CREATE TRIGGER connections_inserted AFTER INSERT ON connections
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'connections'; END;
CREATE TRIGGER connections_updated AFTER UPDATE ON connections
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'connections'; END;
CREATE TRIGGER connections_deleted AFTER DELETE ON connections
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'connections'; END;
