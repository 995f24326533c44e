"""Flux of Black Forest Labs (BFL), at BFL itself and at gateways."""
