"""The HTTP server. Handlers read the request, call a flow or the store, and render."""
