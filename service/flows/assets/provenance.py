"""The provenance of a kept result: a JSON document beside its file, with where the file came from and its hash."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import orjson

from service.domain.events import rfc3339
from service.domain.kept import Kept
from service.domain.task import Result, Task

SUFFIX: Final = ".json"
MAX_SIZE: Final = 64 * 1024


def document(task: Task, result: Result, copy: Kept, *, fetched_at: str) -> dict[str, Any]:
    """Return the provenance of a file. It has no word of the input, but its hash."""
    return {
        "task": str(task.id),
        "asset": str(copy.asset),
        "family": task.family,
        "operation": task.operation,
        "model": task.model,
        "upstream": task.upstream,
        "dialect": task.dialect,
        "external_id": task.external_id,
        "kind": result.kind,
        "role": result.role,
        "item": result.item,
        "accepted_at": rfc3339(task.created_at),
        "submitted_at": rfc3339(task.submitted_at),
        "finished_at": rfc3339(task.finished_at),
        "fetched_at": fetched_at,
        "input_sha256": input_hash(task.input, task.options),
        "sha256": copy.sha256,
        "size": copy.size,
        "media_type": copy.media_type,
        "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    }


def input_hash(given: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an input as canonical JSON: its keys sorted, no blanks."""
    content = orjson.dumps({"input": given, "options": options}, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()


async def encoded(provenance: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """Yield the document as it is stored."""
    yield orjson.dumps(provenance, option=orjson.OPT_INDENT_2)
