"""Midjourney: pictures, and videos of them, by the protocol of midjourney-proxy, which its engines and gateways share."""
