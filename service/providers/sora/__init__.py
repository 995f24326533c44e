"""Sora by relays of its web site, which OpenAI does not offer."""
