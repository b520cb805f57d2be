DROP TABLE batch_lines;
DROP TABLE batches;
DROP TABLE files;
