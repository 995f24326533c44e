"""Faults on purpose: a load and a seeded schedule of faults, and a verifier that reads only what was recorded and the database."""
