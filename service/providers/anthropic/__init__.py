"""Anthropic: its Messages API, by itself and by gateways."""
