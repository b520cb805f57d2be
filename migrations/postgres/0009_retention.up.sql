-- How long projects keep their telemetry (none: as long as the server says), and which were deleted: what they left in the
-- analytics store and among the blobs goes after them, now and once more when what was on its way has arrived.

ALTER TABLE projects ADD COLUMN retention_days BIGINT CHECK (retention_days BETWEEN 1 AND 3650);

CREATE TABLE deleted_projects (
    project_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    organization_id TEXT COLLATE "C" NOT NULL,
    swept_at TIMESTAMPTZ
);

-- Work that one of several processes does at a time.
CREATE TABLE jobs (
    name TEXT NOT NULL PRIMARY KEY,
    lease_holder TEXT NOT NULL,
    leased_until TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ
);

-- Whoever deletes one, or the organization that it belongs to.
CREATE FUNCTION note_deleted_project() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO deleted_projects (project_id, organization_id) VALUES (OLD.id, OLD.organization_id);
    RETURN NULL;
END
$$;
CREATE TRIGGER deleted_projects_noted AFTER DELETE ON projects
FOR EACH ROW EXECUTE FUNCTION note_deleted_project();

-- An organization notes its own; the server (`brokle.system` is `retention`) reads how long every project keeps what, and
-- keeps the list of the deleted ones.
CREATE POLICY retention ON projects FOR SELECT USING (current_setting('brokle.system', true) = 'retention');
ALTER TABLE deleted_projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE deleted_projects FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON deleted_projects USING (organization_id = current_setting('brokle.organization_id', true));
CREATE POLICY system ON deleted_projects USING (current_setting('brokle.system', true) = 'retention');
