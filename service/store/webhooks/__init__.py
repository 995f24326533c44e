"""SQL for client webhooks."""
