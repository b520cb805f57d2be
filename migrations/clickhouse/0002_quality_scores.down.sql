DROP TABLE IF EXISTS quality_scores;
