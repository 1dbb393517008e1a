"""What can be seen from outside: the books, metrics."""
