"""Outgoing HTTP. This layer knows no tasks."""
