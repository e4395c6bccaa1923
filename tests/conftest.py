"""Fixtures for every test."""

import signal

from searching import register_profiles

pytest_plugins = ["cluster.fixtures"]

register_profiles()

# A shell's background job begins with Ctrl-C ignored, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
