"""Tests against a real API server, without a cluster around it."""
