"""Kling: videos, images and sounds, by the two generations of its own API and by gateways."""
