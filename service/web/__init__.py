"""The doors. Thin: read, ask a flow or the store, render."""
