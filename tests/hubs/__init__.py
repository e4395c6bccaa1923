"""Local servers that speak the HTTP APIs of the hubs, and that fail in the ways in which hubs fail."""
