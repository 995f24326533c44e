"""Tasks and the rules of their changes. Pure: no I/O, no clock, no randomness, no environment."""
