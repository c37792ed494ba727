"""Orders of clients that only changed their base URL: recorded, sent once, bound, told from the record."""
