"""Load the settings: a TOML file first, the environment over it, and every mistake in them reported at once."""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from service.providers.registry import PROVIDERS
from service.settings.model import SECTIONS, Settings, UpstreamSettings
from service.settings.values import fault_in

PREFIX = "DOVECOTE_"
OTHER_VARIABLES = frozenset({"DOVECOTE_CONFIG", "DOVECOTE_URL", "DOVECOTE_API_KEY"})
"""Variables with our prefix that are not settings of the server: the file's path, and those of the command as a client."""

_UPSTREAM_LISTS = frozenset({"dialects", "model_names"})
_LISTS = frozenset({"operators", "webhook_ports", "webhook_allow"})
"""Settings that are lists: in the environment separated by commas."""
_TABLES = frozenset({"upstreams", "routes", "on_uncertain_by_client", *SECTIONS})
"""Settings that are tables: in the environment one variable for each entry."""
_STAND_IN = "0" * 8
"""A key for a check of the settings beside it."""
_SERVICE_LINK = re.compile(
    r"_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


class SettingsError(Exception):
    """The settings have mistakes; each is one line with its place and the remedy."""

    def __init__(self, mistakes: list[str]) -> None:
        """Keep every mistake."""
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def load(
    environment: Mapping[str, str], path: Path | None = None, *, given: Mapping[str, Any] | None = None
) -> Settings:
    """Read the settings: the file first, the environment over it, and the command line over both.

    Blanks at the ends of a value are removed. A value that is empty then counts as not set.

    :param path: the file; default ``DOVECOTE_CONFIG``, else ``dovecote.toml`` if that is there
    :param given: settings from the command line, by name; None is not set
    :raises SettingsError: with every mistake
    """
    mistakes: list[str] = []
    environment = {name: value.strip() for name, value in environment.items() if value.strip()}
    document = _trimmed(_read_file(environment, path, mistakes))
    _apply_environment(document, environment, mistakes)
    document |= {name: value for name, value in (given or {}).items() if value is not None}
    _add_known_upstreams(document, environment, mistakes)
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError([*mistakes, *_described(error)]) from None
    if mistakes:
        raise SettingsError(mistakes)
    return settings


def _read_file(environment: Mapping[str, str], path: Path | None, mistakes: list[str]) -> dict[str, Any]:
    named = path or (Path(environment["DOVECOTE_CONFIG"]) if "DOVECOTE_CONFIG" in environment else None)
    file = named or Path("dovecote.toml")
    if named is None and not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        mistakes.append(f"{file}: cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        mistakes.append(f"{file}: is not TOML: it is not in UTF-8")
    except tomllib.TOMLDecodeError as error:
        mistakes.append(f"{file}: is not TOML: {error}")
    return {}


def _trimmed(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document without blanks at the ends of values, and without settings that are empty then."""
    trimmed = {name: _trim(value) for name, value in document.items()}
    return {name: value for name, value in trimmed.items() if value != ""}


def _trim(value: Any) -> Any:
    match value:
        case str():
            return value.strip()
        case list():
            return [_trim(each) for each in value]
        case dict():
            # An entry of a table stays although it is empty: a client whose key is empty must be refused.
            return {name: _trimmed(each) if isinstance(each, dict) else _trim(each) for name, each in value.items()}
        case _:
            return value


def _apply_environment(document: dict[str, Any], environment: Mapping[str, str], mistakes: list[str]) -> None:
    """Put ``DOVECOTE_*`` over the file: ``DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL`` is ``[upstreams.elkapi] base_url``."""
    for variable, value in sorted(environment.items()):
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES or _is_service_link(variable, value):
            continue
        where = variable.removeprefix(PREFIX).lower().split("__")
        if where[0] not in Settings.model_fields or (len(where) > 1 and where[0] not in _TABLES):
            mistakes.append(f"{variable}: no such setting{_nearest(variable)}")
        elif (fault := fault_in(value, blanks_allowed=True)) is not None:
            mistakes.append(f"{variable}: {fault}")
        elif where[0] == "api_keys":
            document["api_keys"] = _named_keys(value, mistakes)
        elif where[0] == "upstreams":
            _set_upstream(document, variable, where[1:], value, mistakes)
        elif where[0] in _TABLES:
            _set_entry(document, variable, where, value, mistakes)
        else:
            document[where[0]] = _listed(value) if where[0] in _LISTS else value


def _is_service_link(variable: str, value: str) -> bool:
    """Return whether Kubernetes or Docker set a variable because a service there has a name that begins with ``dovecote``."""
    if variable.endswith("_PORT") and _SERVICE_ADDRESS.match(value):
        return True
    return _SERVICE_LINK.search(variable) is not None and not variable.startswith(f"{PREFIX}UPSTREAMS__")


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def _set_upstream(document: dict[str, Any], variable: str, where: list[str], value: str, mistakes: list[str]) -> None:
    match where:
        case [name, field] if field in UpstreamSettings.model_fields:
            upstreams = document.setdefault("upstreams", {})
            upstream = upstreams.setdefault(name, {}) if isinstance(upstreams, dict) else None
            if isinstance(upstream, dict):  # otherwise the file has no table there, which the model reports
                upstream[field] = _listed(value) if field in _UPSTREAM_LISTS else value
        case _:
            fields = ", ".join(name.upper() for name in UpstreamSettings.model_fields)
            mistakes.append(f"{variable}: write DOVECOTE_UPSTREAMS__<NAME>__<FIELD>, where FIELD is one of {fields}")


def _set_entry(document: dict[str, Any], variable: str, where: list[str], value: str, mistakes: list[str]) -> None:
    """Set one entry of a table: ``DOVECOTE_ROUTES__RUNWAY`` is ``[routes] runway``."""
    table = document.setdefault(where[0], {})
    if len(where) != 2:  # noqa: PLR2004 - the table and the name
        mistakes.append(f"{variable}: write {PREFIX}{where[0].upper()}__<NAME>")
    elif isinstance(table, dict):  # otherwise the file has no table there, which the model reports
        table[where[1]] = _listed(value) if where[0] == "routes" or _is_list(where) else value


def _is_list(where: list[str]) -> bool:
    """Return whether a setting of a section is a list."""
    section = SECTIONS.get(where[0])
    field = None if section is None else section.model_fields.get(where[1])
    return field is not None and get_origin(field.annotation) is tuple


def _named_keys(value: str, mistakes: list[str]) -> dict[str, str]:
    """Read ``name=key,name=key``; a bare key, which may end in ``=`` as base64 does, belongs to the client ``default``."""
    keys: dict[str, str] = {}
    for part in _listed(value):
        name, _, key = part.partition("=")
        client, key = (name.strip(), key.strip()) if key.strip("= ") else ("default", part)
        if client in keys:
            mistakes.append("api_keys: two keys are for the same client; write name=key,name=key with different names")
        keys[client] = key
    return keys


def _add_known_upstreams(document: dict[str, Any], environment: Mapping[str, str], mistakes: list[str]) -> None:
    """Switch on the providers whose key is set, and complete what is known about them."""
    upstreams = document.setdefault("upstreams", {})
    if not isinstance(upstreams, dict):
        return
    for provider in PROVIDERS.values():
        key = environment.get(provider.key_variable)
        if key and isinstance(upstreams.setdefault(provider.name, {}), dict):
            upstreams[provider.name].setdefault("key", key)
    for name, upstream in list(upstreams.items()):
        if not isinstance(upstream, dict):
            continue
        known = PROVIDERS.get(name)
        if known is not None:
            if str(upstream.setdefault("base_url", known.base_url)).rstrip("/") == known.base_url:
                upstream.setdefault("query_url", known.query_url)
                upstream.setdefault("callback_keys_url", known.callback_keys_url)
            upstream.setdefault("models_path", known.models_path)
            upstream.setdefault("dialects", list(known.dialects))
            if "key" not in upstream:
                mistakes += _faults_without_key(name, upstream)  # the key itself may be misspelt
                del upstreams[name]  # switched off until its key is set
        elif not upstream.get("base_url") or not upstream.get("dialects"):
            mistakes.append(
                f"upstreams.{name[:80]}: is not known by name, as {', '.join(PROVIDERS)} are: set base_url and dialects"
            )
    order = [*PROVIDERS, *upstreams]
    document["upstreams"] = dict(sorted(upstreams.items(), key=lambda item: order.index(item[0])))


def _faults_without_key(name: str, upstream: Mapping[str, Any]) -> list[str]:
    """Return the mistakes in the other settings of an upstream that has no key."""
    try:
        UpstreamSettings.model_validate({**upstream, "key": _STAND_IN})
    except ValidationError as error:
        return _described(error, "upstreams", name)
    return []


def _nearest(variable: str) -> str:
    names = [name.upper() for name in Settings.model_fields]
    close = difflib.get_close_matches(variable.removeprefix(PREFIX).partition("__")[0], names, n=1, cutoff=0.6)
    return (
        f"; did you mean {PREFIX}{close[0]}?" if close else f"; there are {', '.join(PREFIX + name for name in names)}"
    )


def _described(error: ValidationError, *place: str) -> list[str]:
    """Return each mistake as a line.

    :param place: the table that was validated; default: the whole document
    """
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return [line for fault in faults for line in _describe({**fault, "loc": (*place, *fault["loc"])}).splitlines()]


def _describe(fault: Any) -> str:
    """Return one mistake as a line. It never repeats the value, which may be a secret."""
    where = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    first = fault["loc"][0] if len(fault["loc"]) > 1 else ""
    models: Mapping[str, type[BaseModel]] = {"upstreams": UpstreamSettings, **SECTIONS}
    names = models.get(first, Settings).model_fields
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(fault["loc"][-1]), names, n=1, cutoff=0.6)
        message = "no such setting" + (f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}")
    return f"{where}: {message}" if where else message  # one about several settings names them itself
