"""Outgoing HTTP. This layer does not depend on tasks."""
