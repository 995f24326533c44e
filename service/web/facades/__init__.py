"""The doors: APIs of others, so that their clients need only another base URL. Each is switched on by a setting."""

from collections.abc import Sequence

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
from service.web.facades.prefix import RootRoute

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


def around(own: Sequence[BaseRoute], settings: Settings, authenticator: Authenticator) -> list[BaseRoute]:
    """Return our own routes with those of the doors that are switched on: at their prefixes, and at the root.

    At the root, our own routes come first. A door's route that begins as none of ours does is found without asking them.
    """
    at_root = [route for door in _enabled(settings) for route in door.at_root(authenticator)]
    found = [route for door in _enabled(settings) for route in door.at_prefixes(authenticator)]
    if at_root:
        found.append(RootRoute(at_root, own))
    return [*found, *own, *at_root]


def _enabled(settings: Settings) -> list[Door]:
    return [door for door in DOORS if getattr(settings.doors, door.name)]
