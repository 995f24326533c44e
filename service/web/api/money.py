"""Quote a request before anything is bought."""

from typing import Final

from starlette.responses import Response

from service.domain.api_key import Scope
from service.domain.money.quotes import unknown
from service.domain.validation import Invalid
from service.flows.submission import accept
from service.web.api.models import TASK_EXAMPLE, ref
from service.web.api.route import ApiRequest, Endpoint, ResponseSpec, invalid, json_response

TAG: Final = "Money"


async def quote(request: ApiRequest) -> Response:
    """Return the quotes of a request."""
    document = await request.read_json()
    try:
        task = await accept.preview(request.context, document, client=request.client, large=request.lease.size > 0)
    except Invalid as error:
        raise invalid(error.mistakes) from None
    quotes = task.quotes or [unknown(name) for name in task.route]
    shown = {
        "family": task.family,
        "operation": task.operation,
        "model": task.model,
        "route": list(task.route),
        "skipped_upstreams": dict(task.skipped_upstreams),
        "quotes": [each.as_json() for each in quotes],
    }
    return json_response(shown)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/v1/quote",
        handler=quote,
        scope=Scope.READ,
        name="quoteTask",
        tag=TAG,
        summary="Quote a task",
        description=(
            "Takes the body of `POST /v1/tasks`, checks it the same way, and returns what each upstream of the route is "
            'expected to charge. Nothing is stored and nothing is bought. A price that is not known is `"bound": "none"`.'
        ),
        body=ref("TaskRequest"),
        example=TASK_EXAMPLE,
        responses={200: ResponseSpec(description="The quotes, in the order of the route.", schema=ref("QuoteList"))},
        problems=(400, 413, 415, 422),
    ),
)
