"""Settings: read once from ``dovecote.toml`` and the environment, and every mistake in them reported at once."""

import base64
import binascii
import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from service.domain.task import Policy
from service.domain.validation import nearest
from service.http.ssrf.policy import Rules, read_allowed, rules_of
from service.providers.registry import DIALECTS, FAMILIES, PROVIDERS
from service.store.database import parse_url

PREFIX = "DOVECOTE_"
ELSEWHERE = frozenset({"DOVECOTE_CONFIG", "DOVECOTE_URL", "DOVECOTE_API_KEY"})
"""Variables with our prefix that are not settings of the server: where its file is, and what the command uses as a client."""

_LISTS = frozenset({"webhook_ports", "webhook_allow"})
"""Settings that are lists: in the environment separated by commas."""
_SHORTEST_KEY = 16
_NESTED = frozenset({"upstreams", "routes", "on_uncertain_by_client"})
"""Settings that are tables, one entry to a variable."""


class SettingsError(Exception):
    """The settings have mistakes; each is one line that says where it is and what to do."""

    def __init__(self, mistakes: list[str]) -> None:
        """Keep every mistake."""
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class UpstreamSettings(_Strict):
    """An account at a host."""

    base_url: str = ""
    """The bare host, such as ``https://api.elkapi.com``; every dialect adds its own path."""
    key: SecretStr
    dialects: tuple[str, ...] = ()
    """What it speaks, as ``family/dialect``, best first."""
    callbacks: Literal["apply", "confirm", "off"] = "apply"
    """What a callback that bears our token does: is applied, only hastens a poll, or is not asked for at all."""
    callback_key: SecretStr | None = None
    """Verifies the signatures of its callbacks, where it signs them."""
    typical_seconds: float | None = Field(default=None, gt=0)
    """What a task usually takes there, until enough samples of our own are there."""
    concurrency: int = Field(default=20, ge=1, le=1000)
    """How many requests may be under way to it at once, from one process."""
    open_tasks: int | None = Field(default=None, ge=1)
    """How many tasks it may work on at once, from all processes together; a Midjourney account takes 3 to 12."""
    submits_per_second: float | None = Field(default=None, gt=0, le=1000)
    """How many submits it is given in a second, from all processes together."""
    polls_per_second: float | None = Field(default=None, gt=0, le=1000)
    """How many polls it is asked in a second, from all processes together."""
    account_token: SecretStr | None = None
    """The gateway's access token of your account (not an API key): lets a job be found whose answer got lost."""
    account_user: str | None = Field(default=None, coerce_numbers_to_str=True)
    """The number of that account at the gateway."""
    query_url: str = ""
    """The gateway's host for balances, such as ``https://query.elkapi.com``."""
    query_key: SecretStr | None = None
    """A key for that host alone, best one with a quota of 0: it stands in the query string. Without it nothing is asked there."""
    key_name: str | None = None
    """Name of ``key`` at the gateway: where it has a limit of its own, that counts too."""
    billing: bool = False
    """Whether the balance is asked for by new-api's billing routes, with the API key."""
    low_credit: float | None = Field(default=None, ge=0)
    """Below this credit, in the provider's own unit, Dovecote warns."""
    when_full: Literal["wait", "next"] = "wait"
    """What a task does that finds no place there: waits for one, or goes to the next upstream of its route."""

    @field_validator("key", "query_key", "account_token")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not re.fullmatch(r"[\x21-\x7e]+", key.get_secret_value()):
            raise ValueError(
                "is empty, or holds characters that no key has: spaces, dots of an abbreviation (…), letters beyond ASCII"
            )
        return key

    @field_validator("account_user")
    @classmethod
    def _is_a_number(cls, user: str | None) -> str | None:
        if user is not None and not re.fullmatch(r"[0-9]{1,20}", user):
            raise ValueError(
                "is the number of your account at the gateway, such as 1207: its personal settings show it"
            )
        return user

    @model_validator(mode="after")
    def _comes_in_pairs(self) -> Self:
        if self.query_key is not None and not self.query_url:
            raise ValueError("query_key: say query_url too, the gateway's host for balances")
        if (self.account_token is None) != (self.account_user is None):
            raise ValueError("account_token and account_user belong together: give both or none")
        return self

    @field_validator("base_url", "query_url")
    @classmethod
    def _bare_host(cls, url: str) -> str:
        if url and urlsplit(url).path.rstrip("/").endswith("/v1"):
            raise ValueError("leave out /v1: give the bare host, every dialect adds its own path")
        return _http_url(url) if url else url

    @field_validator("dialects")
    @classmethod
    def _known_dialects(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in DIALECTS:
                raise ValueError(f"{name!r} is not a dialect; there are {', '.join(DIALECTS)}")
        return names


def _allowed(entry: str) -> str:
    read_allowed(entry)
    return entry


class Settings(_Strict):
    """Everything that can be set. Names in the environment: ``DOVECOTE_`` and the name in capitals."""

    database_url: str = "sqlite:///dovecote.db"
    """``sqlite:///file`` (one process) or ``postgresql://user:password@host/name`` (any number)."""
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: str | None = None
    """Where providers reach this Dovecote, such as ``https://dovecote.example.com``. Without it there are no callbacks
    and Dovecote polls."""
    api_keys: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Client name → key. Each client sees only its own tasks. More keys are in the database: ``dovecote keys``."""
    operators: tuple[str, ...] = ()
    """Names in ``api_keys`` whose key sees and handles the tasks of every client."""
    rate_limit: int | None = Field(default=None, ge=1)
    """Requests a minute that each key may make at each process; None: as many as it likes."""
    callback_port: int | None = Field(default=None, ge=0, le=65535)
    """A port for the providers' callbacks alone; None: they come to ``port``."""
    callback_host: str | None = None
    """Where that port listens; None: at ``host``."""
    webhook_secret: SecretStr | None = None
    """Signs completion webhooks (``whsec_`` and base64). Made and kept in the database when it is not set."""
    callback_secret: SecretStr | None = None
    """Signs the callback URLs that providers get. Made and kept in the database when it is not set."""
    allow_private_webhooks: bool = False
    """Whether clients may have completion webhooks sent to loopback and private addresses, on every port, over http too."""
    allow_http_webhooks: bool = False
    """Whether completion webhooks may go over plain http."""
    webhook_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = ()
    """Ports that completion webhooks may go to, instead of the usual ones."""
    webhook_allow: tuple[Annotated[str, AfterValidator(_allowed)], ...] = ()
    """Networks, addresses and hosts that completion webhooks may go to although they are private."""
    most_streams: int = Field(default=5000, ge=0, le=100_000)
    """How many streams of events one process holds open at once."""
    upstreams: Mapping[str, UpstreamSettings] = Field(default_factory=dict)
    routes: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Family → upstreams that may serve it, in order. Default: all that are configured, gateways first."""
    on_uncertain: Policy = "hold"
    """What becomes of a task of which nobody can find out whether it was bought: ``hold`` waits for its deadline, ``fail``
    ends it, ``resubmit_once`` buys it again, perhaps for the second time."""
    on_uncertain_by_client: Mapping[str, Policy] = Field(default_factory=dict)
    """The same for single clients. A task may name its own."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def webhook_rules(self) -> Rules:
        """What completion webhooks may reach."""
        return rules_of(
            self.webhook_allow,
            private=self.allow_private_webhooks,
            http=self.allow_http_webhooks,
            ports=self.webhook_ports,
        )

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        parse_url(url)
        return url

    @field_validator("public_url")
    @classmethod
    def _reachable(cls, url: str | None) -> str | None:
        return None if not url else _http_url(url)

    @field_validator("api_keys")
    @classmethod
    def _long_enough(cls, keys: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
        short = sum(len(key.get_secret_value()) < _SHORTEST_KEY for key in keys.values())
        if short:  # by number: a key that was misread may have become a name
            raise ValueError(
                f"{short} of {len(keys)} is shorter than {_SHORTEST_KEY} characters; try: openssl rand -hex 24"
            )
        if len({key.get_secret_value() for key in keys.values()}) < len(keys):
            raise ValueError("two clients have the same key: it would not tell them apart")
        return keys

    def policy_of(self, client: str) -> Policy:
        """Say what becomes of a client's uncertain tasks, unless a task names its own way."""
        return self.on_uncertain_by_client.get(client, self.on_uncertain)

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Self:
        mistakes: list[str] = []
        for family, names in self.routes.items():
            if family not in FAMILIES:
                mistakes.append(f"routes.{family}: there is no such family{nearest(family, FAMILIES)}")
            if not names:
                mistakes.append(f"routes.{family}: leave it out, or name at least one upstream")
            known = {*self.upstreams, *PROVIDERS}
            mistakes += [
                f"routes.{family}: no upstream {name!r} is configured{nearest(name, known)}"
                for name in names
                if name not in known
            ]
            if len(set(names)) < len(names):
                mistakes.append(f"routes.{family}: an upstream is named twice")
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    @field_validator("operators", mode="before")
    @classmethod
    def _separated(cls, names: Any) -> Any:
        return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else names

    @field_validator("operators")
    @classmethod
    def _have_keys(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        strangers = sum(name not in info.data.get("api_keys", names) for name in names)
        if strangers:  # by number, as above
            raise ValueError(f"{strangers} of {len(names)} is no name in api_keys: an operator needs a key there")
        return names

    @field_validator("webhook_secret")
    @classmethod
    def _standard_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is None:
            return None
        form = re.fullmatch(r"whsec_([A-Za-z0-9+/]{32,}={0,2})", secret.get_secret_value())
        try:
            base64.b64decode(form[1] if form else "?", validate=True)
        except binascii.Error:
            raise ValueError('not of the form whsec_…; try: echo "whsec_$(openssl rand -base64 24)"') from None
        return secret


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _has_port(parts):
        raise ValueError("not an http(s) URL, such as https://dovecote.example.com")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("a URL with user, password, query or fragment cannot serve here")
    return url.rstrip("/")


def _has_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:  # its words repeat what stands there: perhaps a password
        return False


def load(environment: Mapping[str, str], path: Path | None = None) -> Settings:
    """Read the settings: the file first, and the environment over it.

    :param path: the file; default ``DOVECOTE_CONFIG``, else ``dovecote.toml`` if that is there
    :raises SettingsError: with every mistake
    """
    mistakes: list[str] = []
    document = _read_file(environment, path, mistakes)
    _overlay(document, environment, mistakes)
    _complete_upstreams(document, environment, mistakes)
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        said = [line for fault in faults for line in _say(fault).splitlines()]
        raise SettingsError([*mistakes, *said]) from None
    if mistakes:
        raise SettingsError(mistakes)
    return settings


def _read_file(environment: Mapping[str, str], path: Path | None, mistakes: list[str]) -> dict[str, Any]:
    named = path or (Path(environment["DOVECOTE_CONFIG"]) if environment.get("DOVECOTE_CONFIG") else None)
    file = named or Path("dovecote.toml")
    if named is None and not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        mistakes.append(f"{file}: cannot be read ({error.strerror})")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        mistakes.append(f"{file}: not TOML: {error}")
    return {}


def _overlay(document: dict[str, Any], environment: Mapping[str, str], mistakes: list[str]) -> None:
    """Lay ``DOVECOTE_*`` over the file: ``DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL`` is ``[upstreams.elkapi] base_url``."""
    for variable, value in sorted(environment.items()):
        if not variable.startswith(PREFIX) or variable in ELSEWHERE:
            continue
        where = variable.removeprefix(PREFIX).lower().split("__")
        if where[0] not in Settings.model_fields or (len(where) > 1 and where[0] not in _NESTED):
            mistakes.append(f"{variable}: no such setting{_nearest(variable)}")
        elif where[0] == "api_keys":
            document["api_keys"] = _named_keys(value, mistakes)
        elif where[0] == "upstreams":
            _set_upstream(document, variable, where[1:], value, mistakes)
        elif where[0] in _NESTED:
            _set_named(document, variable, where, value, mistakes)
        elif where[0] in _LISTS:
            document[where[0]] = _listed(value)
        else:
            document[where[0]] = value


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _set_upstream(document: dict[str, Any], variable: str, where: list[str], value: str, mistakes: list[str]) -> None:
    match where:
        case [name, field] if field in UpstreamSettings.model_fields:
            given = [part.strip() for part in value.split(",")] if field == "dialects" else value
            upstreams = document.setdefault("upstreams", {})
            upstream = upstreams.setdefault(name, {}) if isinstance(upstreams, dict) else None
            if isinstance(upstream, dict):  # else the file has something odd there, and is told so
                upstream[field] = given
        case _:
            fields = ", ".join(name.upper() for name in UpstreamSettings.model_fields)
            mistakes.append(f"{variable}: write DOVECOTE_UPSTREAMS__<NAME>__<FIELD>, where FIELD is one of {fields}")


def _set_named(document: dict[str, Any], variable: str, where: list[str], value: str, mistakes: list[str]) -> None:
    """Set one entry of a table: ``DOVECOTE_ROUTES__RUNWAY`` is ``[routes] runway``."""
    table = document.setdefault(where[0], {})
    if len(where) != 2:  # noqa: PLR2004 - the table and the name
        mistakes.append(f"{variable}: write {PREFIX}{where[0].upper()}__<NAME>")
    elif isinstance(table, dict):  # else the file has something odd there, and is told so
        table[where[1]] = [part.strip() for part in value.split(",")] if where[0] == "routes" else value


def _named_keys(value: str, mistakes: list[str]) -> dict[str, str]:
    """Read ``name=key,name=key``; a bare key, which may end in ``=`` as base64 does, belongs to the client ``default``."""
    keys: dict[str, str] = {}
    for part in (part.strip() for part in value.split(",") if part.strip()):
        name, _, key = part.partition("=")
        client, key = (name.strip(), key.strip()) if key.strip("= ") else ("default", part)
        if client in keys:
            mistakes.append("api_keys: two keys are for the same client; write name=key,name=key with different names")
        keys[client] = key
    return keys


def _complete_upstreams(document: dict[str, Any], environment: Mapping[str, str], mistakes: list[str]) -> None:
    """Switch on the providers whose key is there, and fill in what is known about them."""
    upstreams = document.setdefault("upstreams", {})
    if not isinstance(upstreams, dict):
        return
    for provider in PROVIDERS.values():
        key = environment.get(provider.key_variable, "").strip()
        if key and isinstance(upstreams.setdefault(provider.name, {}), dict):
            upstreams[provider.name].setdefault("key", key)
    for name, upstream in list(upstreams.items()):
        if not isinstance(upstream, dict):
            continue
        known = PROVIDERS.get(name)
        if known is not None:
            if str(upstream.setdefault("base_url", known.base_url)).rstrip("/") == known.base_url:
                upstream.setdefault("query_url", known.query_url)
            upstream.setdefault("dialects", list(known.dialects))
            if "key" not in upstream:
                del upstreams[name]  # configured, and switched off until its key is there
        elif not upstream.get("base_url") or not upstream.get("dialects"):
            mistakes.append(
                f"upstreams.{name}: not known by name ({', '.join(PROVIDERS)} are): say its base_url and dialects"
            )
    order = [*PROVIDERS, *upstreams]
    document["upstreams"] = dict(sorted(upstreams.items(), key=lambda item: order.index(item[0])))


def _nearest(variable: str) -> str:
    names = [name.upper() for name in Settings.model_fields]
    close = difflib.get_close_matches(variable.removeprefix(PREFIX).partition("__")[0], names, n=1, cutoff=0.6)
    return (
        f"; did you mean {PREFIX}{close[0]}?" if close else f"; there are {', '.join(PREFIX + name for name in names)}"
    )


def _say(fault: Any) -> str:
    """Say one mistake without ever repeating the value: it may be a secret."""
    where = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    names = UpstreamSettings.model_fields if fault["loc"][:1] == ("upstreams",) else Settings.model_fields
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(fault["loc"][-1]), names, n=1, cutoff=0.6)
        message = "no such setting" + (f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}")
    return f"{where}: {message}" if where else message  # one about several settings names them itself
