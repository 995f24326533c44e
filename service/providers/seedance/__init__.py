"""Seedance and Seedream of ByteDance: its own API (Ark, ModelArk), and gateways."""
