"""The format of a protocol that the sandbox plays from data: see README.md beside this file."""

import functools
from importlib.resources import files
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.sandbox.jobs import EXTENSIONS, Media
from service.sandbox.template import FILTERS, slots

STATES: Final = ("queued", "running", "succeeded", "failed")
ALWAYS: Final = "always"
"""The part of a message that every state shares."""
REFUSALS: Final = ("refuse", "moderate", "refuse200", "nocredit", "429", "503", "500")
"""The errors that faults ask for."""

_OF_A_JOB: Final = {
    "id", "prompt", "points", "callback_url", "base_url", "file", "order", "fact", "message",
    "created_at", "started_at", "finished_at", "changed_at", "progress",
}  # fmt: skip
_OF_A_MISTAKE: Final = {"why", "field", "limit", "missing", "issues", "header", "wanted", "given"}
_OF_A_LIST: Final = {"jobs", "more", "total", "size", "skipped"}
_OF_AN_ACCOUNT: Final = {"credits_left", "orders_by", "count"}


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reply(_Data):
    """An HTTP answer; its body is a template."""

    status: int = 200
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = None


class Errors(_Data):
    """The errors that every protocol has."""

    unauthorized: Reply
    unknown: Reply
    unknown200: Reply | None = None
    invalid: Reply
    refuse: Reply
    moderate: Reply
    refuse200: Reply
    nocredit: Reply
    too_many: Reply = Field(alias="429")
    unavailable: Reply = Field(alias="503")
    server_error: Reply = Field(alias="500")


class Need(_Data):
    """A field that an order must have."""

    field: str
    when: dict[str, str] = Field(default_factory=dict)
    longest: int | None = None
    reply: Reply | None = None


class Issues(_Data):
    """The description of one mistake of an order, where a provider lists them."""

    missing: Any
    too_long: Any = None


class Words(_Data):
    """A choice by a word that a field contains."""

    field: str
    words: dict[str, Media]


class Points(_Data):
    """The price of a job: `each` times the number in a field."""

    each: int = 10
    field: str = ""
    otherwise: int = 1


class Creation(_Data):
    """A route that takes orders."""

    path: str
    needs: list[Need | str] = Field(default_factory=list)
    headers: dict[str, str] = Field(default_factory=dict)
    prompt: list[str] = Field(default_factory=list)
    callback_url: str = ""
    callback: str = ""
    stages: list[float] = Field(default_factory=list)
    media: Media = "video"
    media_by: Words | None = None
    points: Points = Points()
    facts: dict[str, str] = Field(default_factory=dict)
    facts_with: dict[str, dict[str, str]] = Field(default_factory=dict)
    reply: Any = None
    file: str = ""


class _Job(_Data):
    """The part of a request that names the job."""

    method: str = "GET"
    path: str
    headers: dict[str, str] = Field(default_factory=dict)
    id: str = "path:id"
    id_pattern: str = "(.*)"


class Query(_Job):
    """A route that shows a job."""

    message: str
    reference: str = ""
    shapes: dict[str, str] = Field(default_factory=dict)


class QueryMany(_Data):
    """A route that shows several jobs."""

    method: str = "POST"
    path: str
    headers: dict[str, str] = Field(default_factory=dict)
    ids: str
    message: str
    body: Any = "${jobs}"


class List(_Data):
    """A route that lists the account's jobs, newest first."""

    method: str = "GET"
    path: str
    headers: dict[str, str] = Field(default_factory=dict)
    size: str = "query:limit"
    skipped: str = "query:offset"
    message: str
    body: Any


class Cancel(_Job):
    """A route that cancels a running job."""

    reply: Reply
    too_late: Reply | None = None
    keeps: bool = False


class File(_Job):
    """A route that returns the bytes of a finished job's file, to a holder of the key."""

    ending: str


class Account(_Data):
    """A route that shows the account."""

    method: str = "GET"
    path: str
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any


class Protocol(_Data):
    """A whole protocol: its routes, its messages by state, and its errors."""

    about: str
    dialects: list[str]
    account: str
    prefix: str = ""
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    credits: int = 0
    headers: dict[str, str] = Field(default_factory=dict)
    wrong_header: Reply | None = None
    incomplete: Reply | None = None
    issues: Issues | None = None
    errors: Errors | str
    creations: list[Creation]
    queries: list[Query] = Field(default_factory=list)
    queries_of_many: list[QueryMany] = Field(default_factory=list)
    lists: list[List] = Field(default_factory=list)
    cancels: list[Cancel] = Field(default_factory=list)
    files: list[File] = Field(default_factory=list)
    accounts: list[Account] = Field(default_factory=list)
    messages: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        """Return the paths of its routes, without the prefix."""
        asking = (self.queries, self.queries_of_many, self.lists, self.accounts)
        return [each.path for kind in (self.creations, *asking, self.cancels, self.files) for each in kind]

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse what could only fail while a test runs: a message, state, slot or filter that does not exist."""
        for name, detail, filters in slots(self.model_dump(by_alias=True)):
            known = _OF_A_JOB | _OF_A_MISTAKE | _OF_AN_ACCOUNT | _OF_A_LIST
            if name not in known:
                raise ValueError(f"there is no slot {name!r}; there are {', '.join(sorted(known))}")
            if name == "message" and detail not in self.messages:
                raise ValueError(f"there is no message {detail!r}")
            if wrong := [each for each in filters if each not in FILTERS]:
                raise ValueError(f"there is no filter {wrong[0]!r}; there are {', '.join(FILTERS)}")
        named = [each.callback for each in self.creations if each.callback]
        named += [name for each in self.queries for name in (each.message, *each.shapes.values())]
        named += [each.message for each in self.queries_of_many]
        named += [each.message for each in self.lists]
        if wrong := [name for name in named if name not in self.messages]:
            raise ValueError(f"there is no message {wrong[0]!r}")
        for name, states in self.messages.items():
            _check_states(name, states)
        headers = [self.headers, *(each.headers for each in self.creations), *(each.headers for each in self.queries)]
        if self.wrong_header is None and any(headers):
            raise ValueError("`headers` need `wrong_header`: the answer to a request without them")
        return self


def _check_states(name: str, states: dict[str, Any]) -> None:
    variants = {"moderate", *EXTENSIONS}
    for key in states:
        state, _, variant = key.partition("/")
        if state not in (ALWAYS, "cancelled", *STATES) or variant not in {"", *variants}:
            raise ValueError(f"message {name!r} has no state {key!r}; states are {', '.join(STATES)}, cancelled")
    if ALWAYS not in states and (absent := [state for state in STATES if state not in states]):
        raise ValueError(f"message {name!r} lacks the state {absent[0]!r}")


@functools.cache
def load() -> dict[str, Protocol]:
    """Read every protocol that is packaged with the sandbox, by the name of its file."""
    folder = files("service.sandbox") / "protocols"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".json"))
    return {name.removesuffix(".json"): read(name, (folder / name).read_bytes()) for name in found}


def read(name: str, content: bytes) -> Protocol:
    """Parse one protocol; raise ValueError that names the file and every mistake."""
    try:
        return Protocol.model_validate_json(content)
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise ValueError(f"{name}: {'; '.join(mistakes)}") from None
