"""Replicate: any model by its name, at Replicate itself, at gateways and at Cog servers."""
