-- Exporters read in the order of arrival: only the granules of what is new.
ALTER TABLE observations ADD INDEX IF NOT EXISTS observations_arrival arrival TYPE minmax GRANULARITY 1;
