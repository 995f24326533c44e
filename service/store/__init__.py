"""How it is kept. All the SQL is here: one function is one named statement."""
