"""The state of the upstreams: admission, credit, checks."""
