"""The pictures in README.md and in docs/: `make pictures` makes them anew, from a real run."""
