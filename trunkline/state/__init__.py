"""The worker's state: cursors, lane state, retry rows and the books, committed together."""
