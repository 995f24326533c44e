"""Facts that all new-api gateways share."""
