DROP POLICY retention ON projects;
DROP TRIGGER deleted_projects_noted ON projects;
DROP FUNCTION note_deleted_project;
DROP TABLE jobs;
DROP TABLE deleted_projects;
ALTER TABLE projects DROP COLUMN retention_days;
