"""The REST API: a list of Endpoint values, from which the routes and the OpenAPI document are both made."""

from service.web.api import catalogue, events, tasks, webhook_endpoints, webhook_messages
from service.web.api.route import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *tasks.ENDPOINTS,
    *events.ENDPOINTS,
    *webhook_endpoints.ENDPOINTS,
    *webhook_messages.ENDPOINTS,
    *catalogue.ENDPOINTS,
)
