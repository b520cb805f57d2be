DROP TRIGGER deleted_projects_noted;
DROP TABLE jobs;
DROP TABLE deleted_projects;
ALTER TABLE projects DROP COLUMN retention_days;
