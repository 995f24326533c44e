"""The settings of the doors: the APIs of others that Dovecote speaks."""

import re
from typing import Final

from pydantic import Field, field_validator

from service.settings.strict import Strict

_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.\-_\[\]:]{1,255}")


class DoorSettings(Strict):
    """Which APIs of others are served, and how a repeated request is recognised."""

    runwayml: bool = False
    """Whether Runway's own API is served, at /runwayml."""
    openai: bool = False
    """Whether OpenAI's API is served, at /openai/v1 and at /v1."""
    replicate: bool = False
    """Whether Replicate's API is served, at /replicate/v1 and at /v1."""
    fal: bool = False
    """Whether fal's queue is served, at /fal and at the root."""
    elkapi: bool = False
    """Whether ElkAPI's task API is served, at /v1/task."""
    newapi_video: bool = False
    """Whether new-api's video API is served, at /v1/video/generations."""
    midjourney: bool = False
    """Whether midjourney-proxy's API is served, at /mj and at /mj-fast/mj and its like."""
    suno: bool = False
    """Whether Suno-API is served, at /suno; suno-api at /suno/api."""
    runway_gateway: bool = False
    """Whether Runway is served as gateways offer it, at /runway."""
    cors_origins: tuple[str, ...] = Field(default=(), examples=[["https://chat.example.com"]])
    """The origins whose web pages may call the doors; "*" allows every page that has a key."""
    marked_repeats: int = Field(default=300, ge=0, le=3600)
    """Seconds for which a request that its client marks as a repeat gets the task of an equal one; 0 switches this off."""
    unmarked_repeats: float = Field(default=2.0, ge=0, le=60)
    """Seconds for which an equal request without a mark gets the same task, where the first was cut off or the client is known to
    repeat without a mark; 0 switches this off."""

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        if not all(each == "*" or _ORIGIN.fullmatch(each) for each in origins):
            raise ValueError('write each origin as https://host or http://host:port, or "*"')
        return tuple(each.lower() for each in origins)
