"""What sources have really sent: events, properties, violations of tracking plans (``spec/event_path.md`` §4.6, §9).

An observer follows the accepted log and keeps counts in a database of its own. Nothing waits for it.
"""
