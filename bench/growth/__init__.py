"""Measure the hot statements on tables of any size: ``python -m bench growth``."""
