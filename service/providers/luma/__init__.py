"""Luma: its own two APIs, and gateways."""
