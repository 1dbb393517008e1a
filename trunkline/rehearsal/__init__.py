"""Rehearsal: recorded traffic through two workspaces, and what would be different."""
