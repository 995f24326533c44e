"""What the doctor found: one line each, and what to do about it."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from service.settings.model import Settings

Verdict = Literal["ok", "warning", "mistake"]
SIGNS: Final[Mapping[Verdict, tuple[str, str]]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "mistake": ("✗", "red"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    verdict: Verdict
    says: str
    advice: str | None = None
    """What to do."""

    def as_json(self) -> dict[str, str | None]:
        """Give the JSON object that the command writes."""
        return dataclasses.asdict(self)


def ok(topic: str, says: str) -> Finding:
    """Say that all is well."""
    return Finding(topic, "ok", says)


def warning(topic: str, says: str, advice: str | None = None) -> Finding:
    """Say what works, and somebody should know."""
    return Finding(topic, "warning", says, advice)


def mistake(topic: str, says: str, advice: str | None = None) -> Finding:
    """Say what does not work."""
    return Finding(topic, "mistake", says, advice)


def secrets_of(settings: Settings) -> list[str]:
    """List the secrets of the settings, but for the database's password, which nothing here repeats."""
    upstreams = settings.upstreams.values()
    kept = [settings.webhook_secret, settings.callback_secret, *settings.api_keys.values()]
    kept += [key for each in upstreams for key in (each.key, each.query_key, each.account_token, each.callback_key)]
    return [secret.get_secret_value() for secret in kept if secret is not None]


def without(findings: Iterable[Finding], secrets: Sequence[str]) -> list[Finding]:
    """Take secrets out: the last net below many that should have let none through."""

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "[redacted]") if secret else text
        return text

    return [
        dataclasses.replace(each, says=clean(each.says), advice=None if each.advice is None else clean(each.advice))
        for each in findings
    ]
