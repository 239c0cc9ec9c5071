"""One chunk's life, from its message to its outcomes."""
