-- How long projects keep their telemetry (none: as long as the server says), and which were deleted: what they left in the
-- analytics store and among the blobs goes after them, now and once more when what was on its way has arrived.

ALTER TABLE projects ADD COLUMN retention_days INTEGER CHECK (retention_days BETWEEN 1 AND 3650);

CREATE TABLE deleted_projects (
    project_id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL,
    swept_at TEXT
) STRICT;

-- Work that one of several processes does at a time.
CREATE TABLE jobs (
    name TEXT NOT NULL PRIMARY KEY,
    lease_holder TEXT NOT NULL,
    leased_until TEXT NOT NULL,
    ended_at TEXT
) STRICT;

-- Whoever deletes one, or the organization that it belongs to.
CREATE TRIGGER deleted_projects_noted AFTER DELETE ON projects
BEGIN
    INSERT INTO deleted_projects (project_id, organization_id) VALUES (OLD.id, OLD.organization_id);
END;
