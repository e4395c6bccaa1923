"""Experiment trackers, which are told of a run when its training is done.

They are told by the export, which asks for no GPU and reaches hubs anyhow: a training reaches none of them
and holds none of their keys. What is told is replayed from the log in the store, so it can be told again.
"""
