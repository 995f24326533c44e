"""Webhooks to clients: enqueue, sign, deliver, replay."""
