"""A finding of the doctor: one check, its result, and what to do."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from service.settings.model import Settings

Status = Literal["ok", "warning", "error"]
SIGNS: Final[Mapping[Status, tuple[str, str]]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "error": ("✗", "red"),
}
"""The sign and the colour of each status."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    """The checked subject: ``settings``, ``database``, the name of an upstream."""
    status: Status
    message: str
    advice: str | None = None
    """The remedy."""

    def as_json(self) -> dict[str, str | None]:
        """Return the JSON object that the command writes."""
        return dataclasses.asdict(self)


def ok(check: str, message: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(check, "ok", message)


def warning(check: str, message: str, advice: str | None = None) -> Finding:
    """Return a finding that the operator should know, although the installation works."""
    return Finding(check, "warning", message, advice)


def error(check: str, message: str, advice: str | None = None) -> Finding:
    """Return a finding about something that does not work."""
    return Finding(check, "error", message, advice)


def secrets_of(settings: Settings) -> list[str]:
    """Return the secrets of the settings, except the database's password, which no finding contains."""
    upstreams = settings.upstreams.values()
    kept = [settings.webhook_secret, settings.callback_secret, *settings.api_keys.values()]
    kept += [key for each in upstreams for key in (each.key, each.query_key, each.account_token, each.callback_key)]
    return [secret.get_secret_value() for secret in kept if secret is not None]


def redacted(findings: Iterable[Finding], secrets: Sequence[str]) -> list[Finding]:
    """Return the findings without secrets. The checks leave them out already; this is the last safeguard."""

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "[redacted]") if secret else text
        return text

    return [
        dataclasses.replace(
            each, message=clean(each.message), advice=None if each.advice is None else clean(each.advice)
        )
        for each in findings
    ]
