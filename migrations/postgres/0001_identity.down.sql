DROP TABLE connections;
DROP TABLE api_keys;
DROP TABLE environments;
DROP TABLE projects;
DROP TABLE organizations;
DROP TABLE revisions;
DROP FUNCTION bump_revision();
