"""The page about a run, made of what is known of it. Nothing is read here, and the page runs nothing."""
