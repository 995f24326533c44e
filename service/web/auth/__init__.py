"""Authentication and rate limits of API clients."""
