"""A client of the Tracking API: for events from the command line, from files, and of the demonstration."""
