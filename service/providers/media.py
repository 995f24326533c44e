"""Choose in which form each medium of a task is sent: as it was given, at a URL of Dovecote's, or with its bytes in the request.

A dialect says by ``validate`` what its provider takes. The forms are tried on it, so that no dialect needs a table for this.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from service.domain.media_references import Path, place, reference_in, replaced
from service.domain.media_types import extension
from service.domain.task import Task
from service.domain.validation import Mistake
from service.providers.capabilities import StoresMedia
from service.providers.dialect import Dialect
from service.providers.form import is_inline

Form = Literal["given", "link", "inline", "stored"]
"""``link``: at a URL of Dovecote's. ``inline``: as ``data:``. ``stored``: in the provider's own storage."""

_NO_LINKS = (
    "This protocol takes media at URLs, and Dovecote has no address from which a provider could fetch a file: give a URL, or "
    "set public_url and a storage."
)


@dataclasses.dataclass(frozen=True, slots=True)
class Medium:
    """A medium in a task's input."""

    path: Path
    value: str

    @property
    def field(self) -> str:
        """The name of the input's field that holds it."""
        return str(self.path[0])

    @property
    def is_reference(self) -> bool:
        """Whether it is an upload, or a result of the parent."""
        return reference_in(self.value) is not None

    def has_address(self, *, links: bool) -> bool:
        """Return whether a provider can fetch it. A result has an address at the provider that made it."""
        found = reference_in(self.value)
        return links or (found is not None and found.source == "result")

    @property
    def is_inline(self) -> bool:
        """Whether it is given as ``data:``."""
        return self.value[:5].lower() == "data:"

    @property
    def content_type(self) -> str:
        """Its type, as far as it is stated."""
        found = reference_in(self.value)
        if found is not None:
            return found.content_type
        return self.value[5:105].partition(",")[0].partition(";")[0].lower() if self.is_inline else ""


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """The forms in which a dialect takes the media of a task, and what it is known to refuse all the same."""

    forms: Mapping[Path, Form]
    mistakes: list[Mistake]


def media_in(document: Any, path: Path = ()) -> Iterator[Medium]:
    """Yield the media of an input: references, ``data:`` and URLs."""
    if isinstance(document, str):
        if path and (document.startswith("dovecote:") or document[:8].lower().startswith(_BEGINNINGS)):
            yield Medium(path, document)
    elif isinstance(document, Mapping):
        for name, value in document.items():
            yield from media_in(value, (*path, name))
    elif isinstance(document, list | tuple):
        for number, value in enumerate(document):
            yield from media_in(value, (*path, number))


_BEGINNINGS = ("data:", "http://", "https://")


def choose(dialect: Dialect, task: Task, *, links: bool) -> Choice:
    """Choose the forms of a task's media for a dialect.

    :param links: whether Dovecote has an address from which the provider can fetch files
    """
    media = list(media_in(task.input))
    files = dialect.facts.uploads.get(task.operation, ())
    without: Form = "stored" if isinstance(dialect, StoresMedia) else "inline"
    forms: dict[Path, Form] = {
        each.path: "given"
        if not each.is_reference
        else "inline"
        if each.field in files
        else "link"
        if each.has_address(links=links)
        else without
        for each in media
    }
    mistakes = _check(dialect, task, media, forms)
    for name in {each.field: None for each in media if mistakes_at(mistakes, each.field)}:
        own = [each for each in media if each.field == name]
        check = functools.partial(_check, dialect, task, media)
        forms, mistakes = _other_forms(check, own, forms, mistakes, links=links, stores=without == "stored")
    return Choice({path: form for path, form in forms.items() if form != "given"}, mistakes)


def _check(dialect: Dialect, task: Task, media: list[Medium], forms: Mapping[Path, Form]) -> list[Mistake]:
    stored = dialect.stored_medium() if isinstance(dialect, StoresMedia) else ""
    return dialect.validate(with_stand_ins(task, media, forms, stored))


def _other_forms(
    check: Callable[[Mapping[Path, Form]], list[Mistake]],
    own: list[Medium],
    forms: dict[Path, Form],
    mistakes: list[Mistake],
    *,
    links: bool,
    stores: bool,
) -> tuple[dict[Path, Form], list[Mistake]]:
    """Return the forms of a field that a dialect accepts, and the mistakes that are left; or both unchanged.

    :param check: returns what the dialect refuses where the media have some forms
    :param own: the media of the field
    """
    name = own[0].field
    linked: dict[Path, Form] = {each.path: "link" for each in own if each.is_reference or is_inline(each.value)}
    inline: dict[Path, Form] = {each.path: "inline" for each in own if not each.is_inline}
    stored: dict[Path, Form] = dict.fromkeys(linked, "stored") if stores else {}
    addressed = all(each.has_address(links=links) for each in own if each.path in linked)
    for other in (linked if addressed else stored or linked, inline):
        changed = {**forms, **other}
        if not other or changed == forms:
            continue
        found = check(changed)
        if mistakes_at(found, name):
            continue
        if other is linked and not addressed:
            return forms, [each for each in mistakes if each not in mistakes_at(mistakes, name)] + [_no_links(own)]
        return changed, found
    return forms, mistakes


def _no_links(media: list[Medium]) -> Mistake:
    first = next(each for each in media if is_inline(each.value) or not each.has_address(links=False))
    return Mistake(place(first.path), _NO_LINKS)


def mistakes_at(mistakes: list[Mistake], name: str) -> list[Mistake]:
    """Return the mistakes in a field of the input, or in its items."""
    return [each for each in mistakes if each.path.replace("[", ".").split(".")[:2] == ["input", name]]


def with_stand_ins(task: Task, media: list[Medium], forms: Mapping[Path, Form], stored: str = "") -> Task:
    """Return a task as a dialect is to check it: each medium in its form, without its content.

    :param stored: stands for a medium in the provider's storage
    """
    stand_ins = {
        each.path: stored if form == "stored" else stand_in(each.content_type, form)
        for each in media
        if (form := forms.get(each.path, "given")) != "given"
    }
    if not stand_ins:
        return task
    return dataclasses.replace(task, input=replaced(task.input, stand_ins.get))


def stand_in(content_type: str, form: Form = "link") -> str:
    """Return a text that stands for a medium where only its form is checked."""
    known = content_type or "image/png"
    if form == "inline":
        return f"data:{known};base64,iVBORw0KGgo="
    return f"https://media.example.com/input.{extension(known)}"
