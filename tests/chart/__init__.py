"""The charts: what they render, what they refuse, and what they do on a real API server."""
