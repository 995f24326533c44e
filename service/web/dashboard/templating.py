"""Templates and static files of the dashboard, read once from the package."""

import functools
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup, escape

from service.domain.money.amounts import plain
from service.web.dashboard import words
from service.web.static_files import static_files

HERE: Final = Path(__file__).parent
STATIC: Final = static_files(HERE / "static")
"""The static files by name."""


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
    made.globals["versions"] = {name: each.version for name, each in STATIC.items()}
    made.filters |= {
        "action_label": words.action_label,
        "remaining": words.remaining,
        "amount": plain,
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
