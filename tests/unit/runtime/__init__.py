"""Tests of the processes' parts, run in process."""
