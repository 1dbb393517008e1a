"""Tests of lanes and what they stand on."""
