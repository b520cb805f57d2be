DROP TABLE IF EXISTS observation_hours_built;
DROP TABLE IF EXISTS observation_hours;
