"""The settings of kept results: what is kept, how it is fetched, and how it is served."""

import importlib.util
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from service.domain.validation import nearest
from service.http.ssrf.policy import Rules, read_allowed, rules_of
from service.providers.registry import FAMILIES
from service.settings.strict import Strict
from service.settings.values import check_span, read_span

_PORTS: Final = (80, 443)
"""Ports that results may be fetched from, besides the unprivileged ones."""


def _allowed(entry: str) -> str:
    read_allowed(entry)
    return entry


class ResultsSettings(Strict):
    """Which results are kept as copies, since providers delete them, and how the copies are fetched and served."""

    keep: Literal["all", "none"] | None = Field(default=None, examples=["all"])
    """Whether the results of tasks are kept: "all" or "none". Default: "all" where there is a storage, see storage.url."""
    families: tuple[str, ...] = Field(default=(), examples=[["flux", "replicate", "luma"]])
    """Keep only the results of these families. Default: of every family."""
    max_file: int = Field(default=2**31, ge=2**10)
    """Bytes of one file. A larger one is not kept."""
    max_task: int = Field(default=2**33, ge=2**10)
    """Bytes of all files of a task. Files beyond that are not kept."""
    concurrency: int = Field(default=4, ge=1, le=32)
    """How many files one process fetches at once. Each takes up to 20 MiB of memory."""
    bandwidth: int | None = Field(default=None, ge=2**14, examples=[10_000_000])
    """Bytes a second that one process fetches, all files together. Default: no limit."""
    retry_for: Annotated[str, AfterValidator(check_span)] = "24h"
    """For how long Dovecote tries to fetch a file, such as 12h or 3d. A known expiry at the provider ends it earlier."""
    allow: tuple[Annotated[str, AfterValidator(_allowed)], ...] = Field(
        default=(), examples=[["10.1.0.0/16", "files.internal"]]
    )
    """Private networks, addresses and host names that results may be fetched from. The upstreams' own hosts are always allowed."""
    redirect: bool = False
    """Whether a request for a kept file is redirected to a presigned URL of the bucket, instead of served by Dovecote."""
    link_seconds: int = Field(default=3600, ge=10, le=7 * 86_400)
    """Seconds for which a signed link to a kept file is valid."""
    mark_certificate: Path | None = Field(default=None, examples=["/etc/dovecote/c2pa-chain.pem"])
    """A certificate chain in PEM format. With mark_key, kept pictures, videos and sounds get a C2PA mark "made by AI"; the original is kept too."""
    mark_key: Path | None = Field(default=None, examples=["/etc/dovecote/c2pa-key.pem"])
    """The private key of that certificate, in PEM format."""

    @field_validator("families")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in FAMILIES:
                raise ValueError(f"{name[:80]!r} is not a family{nearest(name, FAMILIES)}")
        return names

    @field_validator("mark_certificate", "mark_key")
    @classmethod
    def _is_a_file(cls, path: Path | None) -> Path | None:
        try:
            if path is not None and "-----BEGIN " not in path.read_text(encoding="ascii"):
                raise ValueError("the file cannot be used: it holds nothing in PEM format")
        except OSError as error:
            raise ValueError(f"the file cannot be used: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError("the file cannot be used: it is not in PEM format") from None
        return path

    @model_validator(mode="after")
    def _comes_in_pairs(self) -> Self:
        if (self.mark_certificate is None) != (self.mark_key is None):
            raise ValueError("mark_certificate and mark_key belong together: set both or none")
        if self.mark_key is not None and importlib.util.find_spec("c2pa") is None:
            raise ValueError("mark_key: marks need the package c2pa-python; install dovecote[c2pa]")
        return self

    @property
    def rules(self) -> Rules:
        """The addresses that results may be fetched from: public ones, also by http."""
        return rules_of(self.allow, private=False, http=True, ports=_PORTS, unprivileged=True)

    @property
    def retry_seconds(self) -> float | None:
        """How long a file is tried for; None: without an end."""
        span = read_span(self.retry_for)
        return None if span is None else span.total_seconds()

    def wants(self, family: str) -> bool:
        """Return whether the results of a family are kept, where results are kept at all."""
        return not self.families or family in self.families
