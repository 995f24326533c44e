"""The doors: APIs of others, so that their clients need only another base URL. Each is switched on by a setting."""

from starlette.routing import Route

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


def routes(settings: Settings, authenticator: Authenticator) -> list[Route]:
    """Return the routes of the doors that are switched on."""
    enabled = [door for door in DOORS if getattr(settings.doors, door.name)]
    return [route for door in enabled for route in door.starlette_routes(authenticator)]
