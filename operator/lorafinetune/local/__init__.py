"""Runs the plan on one machine, with child processes in place of Jobs."""
