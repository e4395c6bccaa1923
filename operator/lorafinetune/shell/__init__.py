"""The operator in a cluster: it reads, lets the plan decide, and applies. Nothing is decided here."""
