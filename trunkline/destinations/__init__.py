"""The kit for writing a destination, and the native destinations, one file each."""
