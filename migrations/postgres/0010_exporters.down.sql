DROP POLICY exporters ON projects;
DROP TABLE exporter_cursors;
