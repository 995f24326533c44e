"""The REST API: a list of Endpoint values, from which the routes and the OpenAPI document are both made."""

from service.web.api import catalogue, tasks
from service.web.api import events as feed
from service.web.api import webhook_endpoints as endpoints
from service.web.api import webhook_messages as messages
from service.web.api.route import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *tasks.ENDPOINTS,
    *feed.ENDPOINTS,
    *endpoints.ENDPOINTS,
    *messages.ENDPOINTS,
    *catalogue.ENDPOINTS,
)
