"""Kept results: copies of the outputs of tasks, fetched before providers delete them."""
