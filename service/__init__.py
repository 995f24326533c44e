"""Dovecote: a webhook receiver and task tracker for media generation."""

__version__ = "0.1.0"
