"""Pika: its own API in both generations, and gateways."""
