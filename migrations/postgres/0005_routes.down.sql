DELETE FROM revisions WHERE name = 'routes';
DROP TABLE route_versions;
DROP TABLE routes;
