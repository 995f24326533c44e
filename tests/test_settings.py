"""Settings from a file and the environment: which wins, every mistake at once, and no secret in any message."""
