DROP TABLE IF EXISTS trace_updates;
