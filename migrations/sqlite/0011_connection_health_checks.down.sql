ALTER TABLE connections DROP COLUMN health_check_seconds;
