"""Ideogram, at its own API and at gateways."""
