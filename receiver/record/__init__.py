"""The record, told table by table: what is decided, read and written, for every database."""
