"""Who calls us: one provider per file, found by name (see ``receiver.plugins``)."""
