"""Suno: songs, lyrics and what can be made of them, by two protocols of gateways and those of sunoapi.org and kie.ai."""
