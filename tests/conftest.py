"""Fixtures for every test."""

import signal

from hypothesis import settings

pytest_plugins = ["cluster.fixtures"]

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell's background job begins with Ctrl-C ignored, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
