"""MiniMax (Hailuo): videos by the two generations of its own API and by gateways."""
