"""The service as real processes on one database: two roles, a restart, and what a start refuses."""
