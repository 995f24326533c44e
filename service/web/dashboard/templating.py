"""Templates and static files of the dashboard, read once from the package."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup, escape

from service.web.dashboard import words

HERE: Final = Path(__file__).parent
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


@dataclasses.dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that browsers may keep: its address changes with its content."""

    body: bytes
    media_type: str
    version: str


@functools.cache
def static_files() -> Mapping[str, StaticFile]:
    """Return the static files by name."""
    return {
        path.name: StaticFile(body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:12])
        for path in sorted((HERE / "static").iterdir())
        if path.suffix in _TYPES
        for body in [path.read_bytes()]
    }


@functools.cache
def environment() -> jinja2.Environment:
    """Return the template environment: it escapes everything, and an undefined name is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["versions"] = {name: each.version for name, each in static_files().items()}
    made.filters |= {
        "remaining": words.remaining,
        "clock": words.clock,
        "count": words.count,
        "duration": words.duration,
        "excerpt": words.excerpt,
        "milliseconds": words.milliseconds,
        "moment": words.moment,
        "number": words.number,
        "precise": words.precise,
        "prose": prose,
        "short_id": words.short_id,
        "size": words.size,
    }
    return made


def prose(text: str) -> Markup:
    """Return a description as markup: words between backticks are code."""
    parts = text.split("`")
    written = (
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )
    return Markup("").join(written)


def rendered(template: str, **values: Any) -> bytes:
    """Return a page."""
    return environment().get_template(template).render(**values).encode()
