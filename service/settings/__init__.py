"""Settings: the model, the loader for the environment and a TOML file, and the example file made from the model."""
