"""The journeys: the only layer that combines store, providers and HTTP."""
