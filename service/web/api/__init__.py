"""The REST API: a list of Endpoint values, from which the routes and the OpenAPI document are both made."""

from service.web.api import catalogue, endpoints, feed, messages, tasks
from service.web.api.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *tasks.ENDPOINTS,
    *feed.ENDPOINTS,
    *endpoints.ENDPOINTS,
    *messages.ENDPOINTS,
    *catalogue.ENDPOINTS,
)
