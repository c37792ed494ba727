"""One file, from its link to the blob store."""
