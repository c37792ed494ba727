"""Where events go: one sink per file, found by URL scheme (see ``receiver.plugins``)."""
