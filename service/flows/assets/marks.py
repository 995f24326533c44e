"""Write the C2PA mark "made by AI" into a second file beside a kept one. The original stays as it was fetched."""

import asyncio
import dataclasses
import functools
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from service.domain.kept import Kept
from service.domain.text import storable
from service.flows.context import log
from service.object_errors import ObjectTooLarge, StorageError
from service.objects import BLOCK, Objects
from service.settings.results import ResultsSettings

SUFFIX: Final = ".marked"
MAX_MARKED: Final = 2**29
"""Bytes of a file that is marked: it is copied to the local disk for that."""
_GROWTH: Final = 2**20
"""Bytes that a mark may add."""
_TYPES: Final = frozenset(
    {"image/jpeg", "image/png", "image/webp", "image/gif", "image/avif", "image/heic", "image/tiff", "image/svg+xml"}
    | {"video/mp4", "video/quicktime", "video/x-msvideo", "audio/mpeg", "audio/mp4", "audio/wav", "audio/flac"}
)


class _NotMarked(Exception):
    """A file gets no mark. The text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Marks:
    """The certificate and the key that sign the marks."""

    certificate: str
    key: str = dataclasses.field(repr=False)
    algorithm: str = "es256"

    @classmethod
    def of(cls, settings: ResultsSettings) -> "Marks | None":
        """Return what the settings name; None where no marks are wanted."""
        if settings.mark_certificate is None or settings.mark_key is None:
            return None
        return _read(settings.mark_certificate, settings.mark_key)


@functools.lru_cache(maxsize=1)
def _read(certificate: Path, key: Path) -> Marks:
    # Imported here: it takes 7 MB, and few installations write marks.
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    pem = key.read_text(encoding="ascii")
    loaded = load_pem_private_key(pem.encode(), password=None)
    if isinstance(loaded, ec.EllipticCurvePrivateKey):
        algorithm = {256: "es256", 384: "es384"}.get(loaded.curve.key_size, "es512")
    else:
        algorithm = "ed25519" if isinstance(loaded, ed25519.Ed25519PrivateKey) else "ps256"
    return Marks(certificate.read_text(encoding="ascii"), pem, algorithm)


async def mark(
    objects: Objects,
    name: str,
    copy: Kept,
    settings: ResultsSettings,
    provenance: Mapping[str, Any],
    *,
    content_type: str,
    disposition: str,
) -> Kept:
    """Store a marked copy of a kept file, and return the facts of the copy with whether there is one, or why there is none.

    A file of a type without marks, and one that bears a mark of its provider, get none. The original is kept in any case.
    """
    try:
        marks = Marks.of(settings)
        if marks is None:
            return copy
        await _mark(objects, name, copy, marks, provenance, content_type=content_type, disposition=disposition)
    except _NotMarked as reason:
        return dataclasses.replace(copy, not_marked_because=str(reason))
    except (StorageError, ObjectTooLarge, OSError) as error:
        log.warning("mark not written asset=%s error=%s", copy.asset, error)
        return dataclasses.replace(copy, not_marked_because="the marked copy could not be stored")
    except Exception:  # noqa: BLE001 - a key with a password, for example, must cost no original
        log.exception("mark cannot be made asset=%s", copy.asset)
        return dataclasses.replace(copy, not_marked_because="the mark cannot be made; the log of the server says why")
    return dataclasses.replace(copy, marked=True)


async def _mark(
    objects: Objects,
    name: str,
    copy: Kept,
    marks: Marks,
    provenance: Mapping[str, Any],
    **attributes: str,
) -> None:
    """Store a marked copy.

    :raises _NotMarked: when the file gets no mark
    """
    size, media_type = copy.size or 0, copy.media_type or ""
    if media_type not in _TYPES:
        raise _NotMarked(f"a file of the type {media_type} takes no mark")
    if size > MAX_MARKED:
        raise _NotMarked(f"it has more than {MAX_MARKED} bytes")
    with tempfile.TemporaryDirectory(prefix="dovecote-mark-") as folder:
        original, marked = Path(folder, "original"), Path(folder, "marked")
        await _copy(objects, name, size, original)
        await asyncio.to_thread(_sign, original, marked, media_type, marks, provenance)
        limit = size + _GROWTH + size // 2
        await objects.put(name + SUFFIX, _pieces(marked), limit=limit, **attributes)


async def _copy(objects: Objects, name: str, size: int, path: Path) -> None:
    file = await asyncio.to_thread(path.open, "wb")
    with file:
        async for block in objects.read(name, 0, size):
            await asyncio.to_thread(file.write, block)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while block := await asyncio.to_thread(file.read, BLOCK):
            yield block


def _sign(original: Path, marked: Path, media_type: str, marks: Marks, provenance: Mapping[str, Any]) -> None:
    """Write a marked copy of a file.

    :raises _NotMarked: when the file has a mark already, or is damaged
    """
    import c2pa  # noqa: PLC0415 - an extra, see pyproject.toml

    try:
        if _is_marked(c2pa, original, media_type):
            raise _NotMarked("it has a mark of its provider")
        signing = c2pa.C2paSignerInfo(marks.algorithm.encode(), marks.certificate.encode(), marks.key.encode(), None)
        with (
            c2pa.Signer.from_info(signing) as signer,
            c2pa.Builder(_manifest(provenance)) as builder,
            original.open("rb") as source,
            marked.open("w+b") as target,
        ):
            builder.sign(signer, media_type, source, target)
    except c2pa.C2paError as error:
        log.warning("mark not written asset=%s error=%s", provenance["asset"], str(error)[:200])
        raise _NotMarked(f"the mark cannot be written: {storable(str(error))[:100]}") from None


def _is_marked(c2pa: Any, path: Path, media_type: str) -> bool:
    try:
        with path.open("rb") as file, c2pa.Reader(media_type, file):
            return True
    except c2pa.C2paError.ManifestNotFound:
        return False


def _manifest(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims about a file: that a model made it, and which one."""
    model = provenance["model"] or f"{provenance['family']} {provenance['operation']}"
    kind = provenance["digital_source_type"]
    agent = {"name": f"{provenance['upstream']} {model}"}
    return {
        "claim_generator_info": [{"name": "Dovecote"}],
        "title": f"{provenance['asset']}",
        "assertions": [
            {
                "label": "c2pa.actions",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": kind, "softwareAgent": agent}]},
            },
        ],
    }
