"""Files: the kept copies of results, the uploads of clients, and media for providers."""
