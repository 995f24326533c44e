"""Veo of Google: its own two APIs, and gateways."""
