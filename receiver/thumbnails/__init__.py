"""Small pictures of stored images: made once, by one process that may do nothing else, and kept."""
