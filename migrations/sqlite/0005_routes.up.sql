-- Routes: names with candidates of their own, as an organization or one of its projects defines them. Each change is a new
-- version; `routes.version` is the one that serves. `definition` is a JSON object in the form of a configured route.

CREATE TABLE routes (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    project_id TEXT,
    name TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    created_at TEXT NOT NULL,
    UNIQUE (organization_id, id),
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX routes_owner_name ON routes (organization_id, coalesce(project_id, ''), name);

CREATE TABLE route_versions (
    organization_id TEXT NOT NULL,
    route_id TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    definition TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    changed_at TEXT NOT NULL,
    PRIMARY KEY (route_id, version),
    FOREIGN KEY (organization_id, route_id) REFERENCES routes (organization_id, id) ON DELETE CASCADE
) STRICT;

INSERT INTO revisions (name, value) VALUES ('routes', 0);

CREATE TRIGGER routes_inserted AFTER INSERT ON routes
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'routes'; END;
CREATE TRIGGER routes_updated AFTER UPDATE ON routes
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'routes'; END;
CREATE TRIGGER routes_deleted AFTER DELETE ON routes
BEGIN UPDATE revisions SET value = value + 1 WHERE name = 'routes'; END;
