"""What Dovecote is measured with; see ``__main__``."""
