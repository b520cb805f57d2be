-- Routes: names with candidates of their own, as an organization or one of its projects defines them. Each change is a new
-- version; `routes.version` is the one that serves. `definition` is a JSON object in the form of a configured route.

CREATE TABLE routes (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    project_id TEXT COLLATE "C",
    name TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL CHECK (version > 0),
    created_at TIMESTAMPTZ NOT NULL,
    UNIQUE (organization_id, id),
    FOREIGN KEY (organization_id, project_id) REFERENCES projects (organization_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX routes_owner_name ON routes (organization_id, coalesce(project_id, ''), name);

CREATE TABLE route_versions (
    organization_id TEXT COLLATE "C" NOT NULL,
    route_id TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL CHECK (version > 0),
    definition TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (route_id, version),
    FOREIGN KEY (organization_id, route_id) REFERENCES routes (organization_id, id) ON DELETE CASCADE
);

INSERT INTO revisions (name, value) VALUES ('routes', 0);

CREATE TRIGGER routes_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON routes
FOR EACH STATEMENT EXECUTE FUNCTION bump_revision('routes');

ALTER TABLE routes ENABLE ROW LEVEL SECURITY;
ALTER TABLE routes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON routes USING (organization_id = current_setting('brokle.organization_id', true));

ALTER TABLE route_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE route_versions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON route_versions USING (organization_id = current_setting('brokle.organization_id', true));
