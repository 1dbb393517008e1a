"""What the tests of the whole process tree share: a server, a receiving end, a load."""
