ALTER TABLE observations DROP INDEX IF EXISTS observations_arrival;
