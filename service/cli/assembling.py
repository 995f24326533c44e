"""Make a recording of the exchanges with an upstream: find the jobs in them, and remove secrets and contents. Pure."""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from service.sandbox.rehearsal import CALLBACK, Answered, CalledBack, RecordedJob, Recording

_ID: Final = re.compile(r"(?=[^0-9]*[0-9]|.{20})[\w.:/-]{6,200}")
"""A text of an answer that may be the id of a job; words such as "success" are none."""
MIN_CONTENT: Final = 8
"""Characters from which on a text of a request is removed from the answers that repeat it."""
CONTENT: Final = "a recorded text"
_CALLBACK_URL: Final = re.compile(r"https?://[^\s\"'\\<>]+/callbacks/[A-Za-z0-9_.~-]{20,}")
_QUERY: Final = re.compile(r"(https?://[^\s\"'\\<>?]+)\?[^\s\"'\\<>]+")
_KEY_LIKE: Final = re.compile(r"\b(sk|key|token|Bearer)[-_ ][A-Za-z0-9_-]{16,}")


@dataclasses.dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, as they went by."""

    at: float
    method: str
    path: str
    """With the query."""
    request: str
    status: int
    content_type: str
    answer: str


@dataclasses.dataclass(frozen=True, slots=True)
class Callback:
    """A callback that Dovecote has stored."""

    token: str
    at: float
    body: str


def assemble(
    upstream: str, exchanges: Sequence[Exchange], callbacks: Sequence[Callback], *, secrets: Iterable[str] = ()
) -> Recording:
    """Return the recording of these exchanges and callbacks, without secrets and without the texts of requests.

    :param secrets: keys that may have been repeated
    """
    later = [f"{unquote(each.path)} {each.request}" for each in exchanges]
    jobs: list[RecordedJob] = []
    used: set[int] = set()
    for number, each in enumerate(exchanges):
        if each.method not in {"POST", "PUT"} or number in used:
            continue
        token = next(iter(tokens_in(each.request)), None)
        own = [one for one in callbacks if token is not None and one.token == token]
        ids = [name for name in _ids(each.answer) if _is_used(name, later[number + 1 :], own)]
        if not ids:
            continue
        polls = [index for index in range(number + 1, len(exchanges)) if any(name in later[index] for name in ids)]
        used |= {number, *polls}
        clean = _Cleaner(secrets, each.request)
        jobs.append(
            RecordedJob(
                ids=ids,
                callback=next(_paths_of_callback(_parsed(each.request)), ""),
                create=_answered(each, each.at, clean),
                polls=[_answered(exchanges[index], each.at, clean) for index in polls],
                callbacks=[
                    CalledBack(after=round(max(one.at - each.at, 0.0), 3), body=clean(one.body))
                    for one in sorted(own, key=lambda one: one.at)
                ],
            )
        )
    others = [
        _answered(each, each.at, _Cleaner(secrets, each.request))
        for number, each in enumerate(exchanges)
        if number not in used
    ]
    return Recording(upstream=upstream, jobs=jobs, others=others)


class _Cleaner:
    """Removes what does not belong into a file that is shared."""

    def __init__(self, secrets: Iterable[str], request: str) -> None:
        self._secrets = sorted({each for each in secrets if each}, key=len, reverse=True)
        texts = {text for text in _texts(_parsed(request)) if len(text) >= MIN_CONTENT and not _is_name(text)}
        self._contents = sorted(texts, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return a text without secrets, addresses of callbacks, signatures of URLs, and texts of the request."""
        for secret in self._secrets:
            text = text.replace(secret, "removed")
        text = _CALLBACK_URL.sub(lambda _: CALLBACK, text.replace("\\/", "/"))
        text = self._without_contents(text)
        text = _QUERY.sub(r"\1?signature=removed", text)
        return _KEY_LIKE.sub("removed", text)

    def _without_contents(self, text: str) -> str:
        for content in self._contents:
            for written in (json.dumps(content)[1:-1], json.dumps(content, ensure_ascii=False)[1:-1], content):
                text = text.replace(written, CONTENT)
        document = _parsed(text)
        changed = self._replaced(document)  # encoders differ in what they escape
        return text if changed == document else json.dumps(changed, ensure_ascii=False)

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: self._replaced(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._replaced(each) for each in value]
        if isinstance(value, str):
            for content in self._contents:
                value = value.replace(content, CONTENT)
        return value


def _answered(each: Exchange, began: float, clean: _Cleaner) -> Answered:
    return Answered(
        method=each.method,
        path=clean(each.path),
        after=round(each.at - began, 3),
        status=each.status,
        content_type=each.content_type,
        body=clean(each.answer),
    )


def _ids(answer: str) -> list[str]:
    """Return the texts of an answer that may be ids: one word with a digit, or a long one."""
    found = (str(value) for value in _values(_parsed(answer)))
    return list(dict.fromkeys(each for each in found if _ID.fullmatch(each)))


def _is_used(name: str, later: Iterable[str], callbacks: Iterable[Callback]) -> bool:
    return any(name in text for text in later) or any(name in each.body for each in callbacks)


def _is_name(text: str) -> bool:
    """Return whether a text of a request names something, such as a model or a size, and is not a content."""
    return re.fullmatch(r"[\w.:/-]{1,60}", text) is not None and not text.startswith("http")


def tokens_in(request: str) -> list[str]:
    """Return the tokens of the callback URLs in a request."""
    return [found.rpartition("/")[2] for found in _CALLBACK_URL.findall(request.replace("\\/", "/"))]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _values(document: Any) -> Iterator[Any]:
    if isinstance(document, Mapping):
        for value in document.values():
            yield from _values(value)
    elif isinstance(document, list):
        for value in document:
            yield from _values(value)
    elif isinstance(document, str | int) and not isinstance(document, bool):
        yield document


def _texts(document: Any) -> Iterator[str]:
    return (each for each in _values(document) if isinstance(each, str) and not _CALLBACK_URL.search(each))


def _paths_of_callback(document: Any, before: str = "") -> Iterator[str]:
    """Yield the dotted paths of the fields that hold a callback URL."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(document, Mapping):
        pairs = document.items()
    elif isinstance(document, list):
        pairs = enumerate(document)
    elif isinstance(document, str) and _CALLBACK_URL.search(document):
        yield before.removesuffix(".")
    for name, value in pairs:
        yield from _paths_of_callback(value, f"{before}{name}.")
