DROP TABLE exporter_cursors;
