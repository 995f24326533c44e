"""The dashboard: pages for people, rendered on the server. Each page has a module with its values and a template."""
