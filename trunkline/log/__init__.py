"""The durable event log: the contract, its record formats and the embedded engine."""
