"""Real servers for tests: built from source, cached by content, started on loopback."""
