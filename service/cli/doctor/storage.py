"""Check the storage of files: kept results and uploads."""

import contextlib
from pathlib import Path

from service.app import objects_of
from service.cli.doctor.finding import Finding, error, ok
from service.object_errors import StorageError
from service.settings.model import Settings
from service.store.database import parse_url

_ADVICE = "check storage.url, its credentials and its free space; results and uploads cannot be stored until then"


async def check_storage(settings: Settings) -> list[Finding]:
    """Write, read and delete a small file, where there is a storage. A folder that is missing is not made."""
    if not settings.stores_files:
        return [ok("storage", "there is none: results are not kept, and uploads are refused")]
    where = settings.storage.url
    if where is None:
        folder = Path(parse_url(settings.database_url).database or "").parent / "dovecote-objects"
        if not folder.exists():
            return [ok("storage", f"{folder} does not exist yet: `dovecote serve` creates it")]
        where = str(folder)
    try:
        objects = objects_of(settings)
        if objects is not None:
            with contextlib.closing(objects):
                await objects.check()
    except StorageError as problem:
        return [error("storage", f"{where} does not work: {problem}", _ADVICE)]
    return [ok("storage", f"{where} can be written and read")]
