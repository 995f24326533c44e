"""Runway: videos, images and voices, by its own API and by the two protocols that gateways put before it."""
