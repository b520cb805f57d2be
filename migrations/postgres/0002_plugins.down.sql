DELETE FROM revisions WHERE name = 'plugins';
DROP TABLE plugin_events;
DROP TABLE plugin_grants;
DROP TABLE plugin_scopes;
DROP TABLE plugin_releases;
DROP TABLE plugin_versions;
