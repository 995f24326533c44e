"""Settings: the model, and how it is loaded from the environment and a TOML file."""
