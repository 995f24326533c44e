"""Serve media to providers: each at a link that nobody can guess, for as long as a task needs it.

The links are beside the callbacks, because a provider reaches this address already.
"""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.domain.uploads import Upload
from service.flows.assets.uploads import file_name
from service.flows.context import Context, log
from service.object_errors import StorageError
from service.store import uploads as upload_store
from service.store.database import StoreUnavailable
from service.web.file_response import file_response
from service.web.problems import Problem, unavailable


async def serve(request: Request) -> Response:
    """Answer a request for a medium: 404 for a token that Dovecote did not issue, without a query, and for one that is gone."""
    context: Context = request.app.state.context
    upload_id = context.tokens.read_link(request.path_params["token"])
    if upload_id is None:
        return _gone().response()
    try:
        upload = await _find(context, upload_id)
        if upload is None or context.objects is None:
            return _gone().response()
        # A local folder of another machine, or one that was cleaned by hand, has no such object.
        if await context.objects.size(upload.object) != upload.size:
            return _gone().response()
    except StoreUnavailable:
        return unavailable("the database is out of reach; repeat the request").response()
    except StorageError as error:
        log.warning("medium cannot be read upload=%s error=%s", upload_id, error)
        return unavailable("the file cannot be read now; repeat the request").response()
    return file_response(
        context.objects,
        upload.object,
        size=upload.size,
        content_type=upload.content_type,
        etag=upload.sha256 or "",
        file_name=file_name(upload),
        request_headers=request.headers,
        head=request.method == "HEAD",
    )


async def _find(context: Context, upload_id: UUID) -> Upload | None:
    async with context.database.reading() as connection:
        found = (await upload_store.by_id(connection, [upload_id])).get(upload_id)
    return found if found is not None and found.usable(context.now()) else None


def _gone() -> Problem:
    return Problem(404, "not_found", "there is no file at this address, or not any more")


ROUTES = [Route("/callbacks/media/{token}/{name}", serve, methods=["GET"])]
"""The routes beside the callbacks. HEAD is included."""
