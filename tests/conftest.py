"""Fixtures for every test."""

pytest_plugins = ["cluster.fixtures"]
