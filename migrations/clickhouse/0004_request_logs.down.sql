DROP TABLE IF EXISTS routing_decisions;
DROP TABLE IF EXISTS request_logs;
