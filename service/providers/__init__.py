"""The wire protocols of all providers. They describe HTTP and never perform it."""
