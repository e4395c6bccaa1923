"""The pure core: what is to be done, decided from what was observed. No I/O, no clock, no client."""
