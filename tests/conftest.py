"""Fixtures for every test."""

from hypothesis import settings

pytest_plugins = ["cluster.fixtures"]

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
