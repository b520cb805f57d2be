DROP TABLE IF EXISTS semantic_vectors;
