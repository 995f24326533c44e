"""All SQL: one function is one named statement or a few that belong together."""
