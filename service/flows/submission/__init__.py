"""The journey from an API request to a job at an upstream."""
