"""The journey of client webhooks."""
