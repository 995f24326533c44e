"""The doors: APIs of others, so that their clients need only another base URL. Each is switched on by a setting."""

from starlette.routing import BaseRoute

from service.settings.model import Settings
from service.web.auth.bearer import Authenticator
from service.web.facades import (
    elkapi,
    fal,
    midjourney,
    newapi_video,
    openai,
    replicate,
    runway_gateway,
    runwayml,
    suno,
)
from service.web.facades.door import Door

DOORS: tuple[Door, ...] = (
    runwayml.DOOR,
    openai.DOOR,
    replicate.DOOR,
    elkapi.DOOR,
    newapi_video.DOOR,
    midjourney.DOOR,
    suno.DOOR,
    runway_gateway.DOOR,
    fal.DOOR,  # at the root it has every path of two parts or more that no other has
)
"""Every door. Where two have a path in common, the first one has it."""


def at_prefixes(settings: Settings, authenticator: Authenticator) -> list[BaseRoute]:
    """Return the routes of the doors that are switched on, below their prefixes. No path of ours begins with one."""
    return [route for door in _enabled(settings) for route in door.at_prefixes(authenticator)]


def at_root(settings: Settings, authenticator: Authenticator) -> list[BaseRoute]:
    """Return the routes of the doors that are switched on, at the root. They come after our own."""
    return [route for door in _enabled(settings) for route in door.at_root(authenticator)]


def _enabled(settings: Settings) -> list[Door]:
    return [door for door in DOORS if getattr(settings.doors, door.name)]
