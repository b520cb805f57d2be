-- How often a connection is asked whether it is there, in seconds; NULL: never.
ALTER TABLE connections ADD COLUMN health_check_seconds INTEGER;
