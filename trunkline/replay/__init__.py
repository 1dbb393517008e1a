"""Replay: archived events to a destination once more."""
