"""Recraft, at its own API and at gateways."""
