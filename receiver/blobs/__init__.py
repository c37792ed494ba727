"""Where bytes live: one blob store per file, found by URL scheme (see ``receiver.plugins``)."""
