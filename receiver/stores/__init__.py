"""Where the record lives: one store per file, found by URL scheme (see ``receiver.plugins``)."""
