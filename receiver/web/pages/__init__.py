"""The admin pages: HTML that does everything without scripts, one file a page."""
