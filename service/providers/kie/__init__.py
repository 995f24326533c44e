"""kie.ai: its task API for any model, and its older endpoints for each product."""
