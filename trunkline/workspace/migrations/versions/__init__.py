"""One revision a file, never changed once released. The next one names the last as its ``down_revision``."""
