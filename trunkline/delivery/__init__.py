"""Lanes, the retry policy, the guarded HTTP client."""
