"""Store the files that clients upload at doors, and find them in their requests."""

import hmac
import re
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from service.domain import media_references
from service.domain.media_references import Path, replaced
from service.domain.uploads import Upload
from service.flows.assets import uploads
from service.flows.webhooks.formats.shapes import bytes_of
from service.object_errors import ObjectTooLarge, StorageError, StorageFull
from service.store import uploads as upload_store
from service.web.facades.door import DoorRequest
from service.web.problems import Problem, unavailable

_PART: Final = 256 * 1024
_MAX_ADDRESS: Final = 2048
NAME: Final = "(upl_[a-z2-7]{26})"
"""The id of an upload, as a group of a regular expression."""
_ADDRESS_SECONDS: Final = 3600
"""Seconds for which a file can be put at an address."""


def new_address(request: DoorRequest) -> tuple[UUID, str]:
    """Return the id of a new upload, and the query of the address at which its file can be put without a key for a time.

    :raises Problem: 400 where there is no storage
    """
    if request.context.objects is None:
        raise Problem(400, "no_storage", "there is no storage for files: give a URL or a data: URL instead")
    upload_id = request.context.new_id()
    until = int(request.context.now().timestamp()) + _ADDRESS_SECONDS
    proof = request.context.tokens.sign_upload(upload_id, request.client, until)
    return upload_id, urlencode({"client": request.client, "until": until, "proof": proof})


def at_address(request: DoorRequest) -> tuple[UUID, str]:
    """Return the upload whose file is put at the address of a request, and its client. Nothing of the body is read for it.

    :raises Problem: 403 where the address is incomplete, not from here, or has expired
    """
    upload_id = media_references.upload_id(request.http.path_params["id"])
    client, until, proof = (request.http.query_params.get(name, "") for name in ("client", "until", "proof"))
    is_number = until.isascii() and until.isdecimal() and len(until) < 12  # noqa: PLR2004 - digits of a Unix second
    if upload_id is None or not is_number:
        raise Problem(403, "forbidden", "the address is incomplete")
    expected = request.context.tokens.sign_upload(upload_id, client, int(until))
    if not hmac.compare_digest(proof.encode(), expected.encode()):
        raise Problem(403, "forbidden", "the address is not valid")
    if request.context.now().timestamp() >= int(until):
        raise Problem(403, "forbidden", "the address has expired: request a new one")
    return upload_id, client


async def is_stored(request: DoorRequest, upload_id: UUID) -> bool:
    """Return whether the file of an upload was put already."""
    async with request.context.database.reading() as connection:
        return bool(await upload_store.by_id(connection, [upload_id]))


async def store(
    request: DoorRequest, file: Any, *, client: str, name: str = "", upload_id: UUID | None = None
) -> Upload:
    """Store a file of a form.

    :param file: the file as a ``data:`` URL
    :raises Problem: 400, 409, 413, 503 or 507
    """
    found = bytes_of(file) if isinstance(file, str) else None
    if found is None:
        raise Problem(400, "invalid_request", "send the file as a part of a form")
    return await store_bytes(request, found[0], client=client, name=name, upload_id=upload_id)


async def store_bytes(
    request: DoorRequest, content: bytes, *, client: str, name: str = "", upload_id: UUID | None = None
) -> Upload:
    """Store the bytes of a file.

    :raises Problem: 400, 409, 413, 503 or 507
    """
    try:
        return await uploads.store(
            request.context,
            _parts(content),
            client=client,
            name=name,
            stated_size=len(content),
            upload_id=upload_id,
        )
    except ObjectTooLarge as error:
        raise Problem(413, "too_large", f"send at most {error.limit} bytes") from None
    except uploads.QuotaReached as error:
        raise Problem(400, "quota_reached", str(error)) from None
    except uploads.UploadEmpty:
        raise Problem(400, "invalid_request", "the file has no bytes") from None
    except uploads.NoStorage as error:
        raise Problem(400, "no_storage", f"{error}; give a URL or a data: URL instead") from None
    except StorageFull:
        raise Problem(507, "storage_full", "the storage has no room for the file") from None
    except StorageError:
        raise unavailable("the storage does not answer; repeat the request later") from None


async def find(request: DoorRequest, named: str) -> Upload:
    """Return the caller's upload that an id names.

    :raises Problem: 404 where there is none, where it is another client's, and where it has expired
    """
    wanted = media_references.upload_id(named)
    if wanted is not None:
        async with request.context.database.reading() as connection:
            found = (await upload_store.by_id(connection, [wanted])).get(wanted)
        is_own = found is not None and found.client == request.client and found.task_id is None
        if found is not None and is_own and found.usable(request.context.now()):
            return found
    raise Problem(404, "not_found", "no file has this id")


async def _parts(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _PART):
        yield content[start : start + _PART]


def with_uploads(document: Any, address: re.Pattern[str]) -> Any:
    """Return a document in which every address of an upload is a reference to it.

    :param address: matches an address; its first group is the id of the upload
    """

    def reference(_: Path, value: Any) -> Any:
        found = address.fullmatch(value) if isinstance(value, str) and len(value) <= _MAX_ADDRESS else None
        return value if found is None else {"upload": found[1]}

    return replaced(document, reference)
