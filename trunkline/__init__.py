"""Trunkline: a self-hosted customer data platform that Segment's own SDKs run against unchanged."""

__version__ = "0.1.0"
