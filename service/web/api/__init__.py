"""The REST API: a list of endpoints, from which both the routes and the OpenAPI document are made."""

from service.web.api import (
    budgets,
    callbacks,
    catalogue,
    erasures,
    events,
    money,
    results,
    spending,
    task_actions,
    tasks,
    uploads,
    webhook_endpoints,
    webhook_messages,
    webhook_secret,
)
from service.web.api.route import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *tasks.ENDPOINTS,
    *task_actions.ENDPOINTS,
    *erasures.ENDPOINTS,
    *results.ENDPOINTS,
    *uploads.ENDPOINTS,
    *money.ENDPOINTS,
    *budgets.ENDPOINTS,
    *spending.ENDPOINTS,
    *events.ENDPOINTS,
    *webhook_endpoints.ENDPOINTS,
    *webhook_messages.ENDPOINTS,
    *webhook_secret.ENDPOINTS,
    *callbacks.ENDPOINTS,
    *catalogue.ENDPOINTS,
)
