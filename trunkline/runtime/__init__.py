"""The processes: supervisor, ingest, worker; how they start, wake each other and stop."""
