"""Broken datasets, each with the error that it must end in."""
