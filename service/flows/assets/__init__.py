"""Files: the uploads of clients, and media for providers."""
