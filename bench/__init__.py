"""Measurements of Dovecote; see ``__main__``."""
