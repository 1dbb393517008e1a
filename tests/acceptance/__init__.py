"""Acceptance tests: the whole process tree, driven from outside."""
