DROP TABLE score_configs;
