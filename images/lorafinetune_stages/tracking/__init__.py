"""Experiment trackers, which are told of a run when its training is done.

The export tells them, since it asks for no GPU and may reach hubs anyway. A training reaches no tracker and
holds none of their keys. What is told comes from the log in the store, so it can be told again.
"""
