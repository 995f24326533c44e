"""The metrics: counters of a process, and numbers of rows in the database."""
