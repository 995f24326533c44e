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
    try:
        upload_id = context.tokens.read_link(request.path_params["token"])
        upload = None if upload_id is None else await _find(context, upload_id)
        # A local folder of another machine, or one that was cleaned by hand, has no such object.
        if upload is None or context.objects is None or await context.objects.size(upload.object) != upload.size:
            raise _gone()
        return await file_response(
            context.objects,
            upload.object,
            size=upload.size,
            content_type=upload.content_type,
            etag=upload.sha256 or "",
            file_name=file_name(upload),
            request_headers=request.headers,
            head=request.method == "HEAD",
        )
    except Problem as problem:
        return problem.response()
    except StoreUnavailable:
        return unavailable("the database is out of reach; repeat the request").response()
    except StorageError as error:
        log.warning("medium cannot be read error=%s", error)
        return unavailable("the file cannot be read now; repeat the request").response()


async def _find(context: Context, upload_id: UUID) -> Upload | None:
    async with context.database.reading() as connection:
        found = (await upload_store.by_id(connection, [upload_id])).get(upload_id)
    return found if found is not None and found.usable(context.now()) else None


def _gone() -> Problem:
    return Problem(404, "not_found", "there is no file at this address, or not any more")


ROUTES = [Route("/callbacks/media/{token}/{name}", serve, methods=["GET"])]
"""The routes beside the callbacks. HEAD is included."""
