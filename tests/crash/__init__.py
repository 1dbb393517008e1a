"""Crash tests: the process tree is killed, nothing acknowledged is lost."""
