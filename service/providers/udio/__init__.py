"""Udio, by the gateways."""
