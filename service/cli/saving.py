"""Save the results of a task into a folder."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import httpx

from service.cli import exits
from service.cli.printing import clean, say

TIMEOUT: Final = 60.0
"""Seconds without any byte after which a download fails."""
_ENDINGS: Final[Mapping[str, str]] = {
    "video/mp4": "mp4",
    "video/webm": "webm",
    "video/quicktime": "mov",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/svg+xml": "svg",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/mp4": "m4a",
    "model/gltf-binary": "glb",
    "application/json": "json",
    "application/zip": "zip",
    "text/plain": "txt",
}
_DEFAULTS: Final[Mapping[str, str]] = {"video": "mp4", "image": "png", "audio": "mp3", "text": "txt", "json": "json"}
_ENDING: Final = re.compile(r"\.([a-z0-9]{1,5})$", re.IGNORECASE | re.ASCII)

Result = Mapping[str, Any]


class NotSaved(click.ClickException):
    """Some results could not be saved. The others are there."""

    exit_code = exits.UNAVAILABLE


def check_folder(folder: Path | None) -> None:
    """Create the folder before anything is bought.

    :raises click.UsageError: when it cannot be written
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"{folder} cannot be created ({error.strerror})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise click.UsageError(f"{folder} cannot be written")


def save_results(task: Mapping[str, Any], folder: Path, *, key: tuple[str, str] | None = None) -> list[Path]:
    """Save every result of a task, and return the files. A file that is there already is replaced as a whole.

    :param key: the origin of Dovecote and its API key, for results that Dovecote keeps; nobody else is sent the key
    :raises NotSaved: after all others were saved, when some could not be
    """
    saved: list[Path] = []
    failed: list[str] = []
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        for number, result in enumerate(task["results"], 1):
            stem = f"{task['id']}-{number}-{_word(result.get('role') or result['kind'])}"
            try:
                file = _save(client, result, folder, stem, key)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                failed.append(f"{stem}: {_reason(error)}")
                continue
            saved.append(file)
            say(f"saved {file} ({file.stat().st_size:,} bytes)")
    if failed:
        raise NotSaved("not saved: " + clean("; ".join(failed)))
    return saved


def _save(client: httpx.Client, result: Result, folder: Path, stem: str, key: tuple[str, str] | None) -> Path:
    url = result.get("content_url") or result.get("url")
    if url is not None and url.startswith("/") and key is not None:
        url = key[0] + url
    if url is None:
        ending = "json" if result["kind"] == "json" else "txt"
        with _whole(folder / f"{stem}.{ending}") as file:
            file.write_text(str(result.get("text") or ""), encoding="utf-8")
        return folder / f"{stem}.{ending}"
    headers = {}
    if key is not None and f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" == key[0] and key[1]:
        headers["Authorization"] = f"Bearer {key[1]}"
    with client.stream("GET", url, headers=headers) as response:
        response.raise_for_status()
        target = folder / f"{stem}.{_ending(result, url, response)}"
        with _whole(target) as file, file.open("wb") as out:
            for piece in response.iter_bytes():
                out.write(piece)
    return target


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Yield a path to write to, which is put in place of the target when the block has ended well."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _ending(result: Result, url: str, response: httpx.Response) -> str:
    """Return the ending of a file: by its media type, else as its URL has it, else by its kind."""
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in _ENDINGS:
        return _ENDINGS[media_type]
    found = _ENDING.search(urlsplit(url).path)
    return found[1].lower() if found else _DEFAULTS.get(result["kind"], "bin")


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "result"


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
