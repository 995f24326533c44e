"""All settings, with their defaults, limits and descriptions."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from service.domain.task import Policy
from service.domain.validation import nearest
from service.http.ssrf.policy import Rules, read_allowed, rules_of
from service.providers.registry import DIALECTS, FAMILIES, PROVIDERS
from service.settings import values
from service.settings.doors import DoorSettings
from service.settings.money import MoneySettings
from service.settings.observability import ObservabilitySettings
from service.settings.results import ResultsSettings
from service.settings.retention import RetentionSettings
from service.settings.storage import StorageSettings
from service.settings.strict import Strict
from service.settings.uploads import UploadsSettings
from service.store.database import parse_url
from service.store.postgresql import check_files


class UpstreamSettings(Strict):
    """An account at a host."""

    base_url: str = Field(default="", examples=["https://api.elkapi.com"])
    """The host of the API, without a path: every dialect adds its own path. An upstream that is known by name has one already."""
    key: SecretStr = Field(examples=["sk-your-key"])
    """The key of the account. It is sent only to base_url."""
    dialects: tuple[str, ...] = Field(default=(), examples=[["runway/aggregator", "suno/newapi"]])
    """The protocols that it supports, as family/dialect, best first. An upstream that is known by name has them already."""
    callbacks: Literal["apply", "confirm", "off"] = "apply"
    """The effect of a callback with our token: "apply" applies it, "confirm" only triggers a poll, "off" sends no callback URL."""
    callback_key: SecretStr | None = Field(default=None, examples=["your-signing-key"])
    """The key that verifies the signatures of its callbacks, if it signs them; of fal and Ideogram the JSON of their public keys."""
    callback_keys_url: str = Field(default="", examples=["https://rest.fal.ai/.well-known/jwks.json"])
    """The URL of the public keys that verify its callbacks, in place of callback_key. fal and Ideogram have one already, unless base_url is changed."""
    typical_seconds: float | None = Field(default=None, gt=0, examples=[90])
    """The usual duration of a task there, in seconds, until 30 tasks of its kind have been measured."""
    concurrency: int = Field(default=20, ge=1, le=1000)
    """How many requests one process may have in flight to it."""
    open_tasks: int | None = Field(default=None, ge=1, examples=[12])
    """How many tasks it works on at once, counted over all processes. A Midjourney account allows 3 to 12. Default: no limit."""
    submits_per_second: float | None = Field(default=None, gt=0, le=1000, examples=[2])
    """How many submits it gets in a second, counted over all processes. Default: no limit."""
    polls_per_second: float | None = Field(default=None, gt=0, le=1000, examples=[10])
    """How many polls it gets in a second, counted over all processes. Default: no limit."""
    account_token: SecretStr | None = Field(default=None, examples=["your-access-token"])
    """The gateway's access token of the account, which is not an API key. With account_user, Dovecote can find a job whose answer was lost."""
    account_user: str | None = Field(default=None, coerce_numbers_to_str=True, examples=["1207"])
    """The number of that account at the gateway."""
    ca_file: Path | None = Field(default=None, examples=["/etc/ssl/internal-ca.pem"])
    """A file with CA certificates in PEM format that are trusted for this upstream, besides the usual ones."""
    query_url: str = Field(default="", examples=["https://query.elkapi.com"])
    """The gateway's host for balances. ElkAPI and CometAPI have one already, unless base_url is changed."""
    query_key: SecretStr | None = Field(default=None, examples=["sk-key-with-a-quota-of-0"])
    """A key for that host only, with a quota of 0: it is sent in the query string. Without it the balance is not queried."""
    key_name: str | None = Field(default=None, examples=["dovecote"])
    """The name of the key at the gateway. If the key has its own limit, the smaller of the two values is shown."""
    models_path: str = Field(default="", pattern=r"^$|^/[!-~]{1,200}$", examples=["/v1/models"])
    """The path of its list of models in OpenAI's form. ElkAPI and CometAPI have one already; new-api gateways have /v1/models."""
    model_names: tuple[str, ...] = Field(default=(), examples=[["gpt-image-1=gpt-image-2"]])
    """Its own names of models, as NAME=ITS-NAME: a task that names the first is sent with the second. So a task fails over to a host with other names."""
    billing: bool = False
    """Whether the balance is queried by new-api's billing routes, with the API key."""
    charge_log: bool = False
    """Whether new-api's log of charges is read with the API key (GET /api/log/token), to learn of refunds."""
    low_credit: float | None = Field(default=None, ge=0, examples=[5])
    """Dovecote logs a warning below this credit, in the provider's own unit."""
    when_full: Literal["wait", "next"] = "wait"
    """The behaviour of a task while open_tasks is reached: "wait" for a slot, or go to the "next" upstream of its route."""

    @field_validator("callback_key", mode="before")
    @classmethod
    def _is_a_key_set(cls, key: Any) -> Any:
        return values.compact_json(key) if isinstance(key, str) else key

    @field_validator("key", "query_key", "account_token", "callback_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr | None) -> SecretStr | None:
        return None if key is None else values.check_secret(key, values.MIN_UPSTREAM_KEY)

    @field_validator("model_names")
    @classmethod
    def _are_pairs(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        pairs = [name.partition("=") for name in names]
        if not all(given and theirs for given, _, theirs in pairs):
            raise ValueError("write NAME=ITS-NAME, such as gpt-image-1=gpt-image-2")
        if len({given for given, _, _ in pairs}) < len(pairs):
            raise ValueError("names a model twice; write each NAME once")
        return names

    @field_validator("account_user")
    @classmethod
    def _is_a_number(cls, user: str | None) -> str | None:
        if user is not None and not re.fullmatch(r"[0-9]{1,20}", user):
            raise ValueError(
                "is not the number of your account at the gateway, such as 1207: its personal settings show it"
            )
        return user

    @model_validator(mode="after")
    def _comes_in_pairs(self) -> Self:
        if self.query_key is not None and not self.query_url:
            raise ValueError("query_key: set query_url too, the gateway's host for balances")
        if (self.account_token is None) != (self.account_user is None):
            raise ValueError("account_token and account_user belong together: set both or none")
        return self

    @field_validator("callback_keys_url")
    @classmethod
    def _is_a_url(cls, url: str) -> str:
        return values.check_http_url(url) if url else url

    @field_validator("base_url", "query_url")
    @classmethod
    def _is_a_bare_host(cls, url: str) -> str:
        return values.check_bare_host(url) if url else url

    @field_validator("ca_file")
    @classmethod
    def _holds_certificates(cls, path: Path | None) -> Path | None:
        return None if path is None else values.check_ca_file(path)

    @field_validator("dialects")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in DIALECTS:
                raise ValueError(f"{name[:80]!r} is not a dialect{nearest(name, DIALECTS)}")
        return names


def _allowed(entry: str) -> str:
    read_allowed(entry)
    return entry


class Settings(Strict):
    """All settings. Names in the environment: ``DOVECOTE_`` and the name in capitals."""

    database_url: str = "sqlite:///dovecote.db"
    """sqlite:///file (one process) or postgresql://user:password@host/name (any number of processes)."""
    database_pool_size: int = Field(default=20, ge=4, le=200)
    """Connections of one process to PostgreSQL. It needs one more for signals between processes."""
    database_listen_url: str | None = Field(
        default=None, examples=["postgresql://dovecote:password@db.internal/dovecote"]
    )
    """URL of PostgreSQL itself, if `database_url` is that of a pooler such as PgBouncer. Without it, signals between
    processes take up to a second."""
    host: str = "127.0.0.1"
    """The address to listen on. Any address except loopback needs an API key. "::" listens on IPv6 and IPv4."""
    port: int = Field(default=8080, ge=0, le=65535)
    """The port to listen on; 0 selects a free one. A process of the role "worker" listens only if this is set."""
    public_url: str | None = Field(default=None, examples=["https://dovecote.example.com"])
    """The address at which providers reach this Dovecote. Without it there are no callbacks and Dovecote polls."""
    api_keys: Mapping[str, SecretStr] = Field(
        default_factory=dict, examples=[{"shop": "a-key-of-16-characters-or-more"}]
    )
    """Client name and its key. Each client sees only its own tasks. `dovecote keys` stores more keys in the database."""
    operators: tuple[str, ...] = Field(default=(), examples=[["shop"]])
    """Names in api_keys whose key sees and changes the tasks of every client."""
    rate_limit: int | None = Field(default=None, ge=1, examples=[600])
    """Requests a minute that each key may send to each process. Default: no limit."""
    callback_port: int | None = Field(default=None, ge=0, le=65535, examples=[8081])
    """A port for the providers' callbacks only. Default: callbacks use port."""
    callback_host: str | None = Field(default=None, examples=["0.0.0.0"])  # noqa: S104 - an example
    """The address on which callback_port listens. Default: host."""
    webhook_secret: SecretStr | None = Field(default=None, examples=["whsec_ZXhhbXBsZS1vZi1hLXdlYmhvb2stc2VjcmV0"])
    """Signs completion webhooks: whsec_ and base64. Default: generated at the first start and stored in the database."""
    callback_secret: SecretStr | None = Field(default=None, examples=["32-characters-or-more-by-chance-"])
    """Signs the callback URLs that providers get. Default: generated at the first start and stored in the database."""
    allow_private_webhooks: bool = False
    """Whether completion webhooks may go to loopback and private addresses, on every port, also over plain http."""
    allow_http_webhooks: bool = False
    """Whether completion webhooks may go over plain http."""
    webhook_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(default=(), examples=[[443, 9443]])
    """Ports that completion webhooks may go to, instead of 443 and 8443."""
    webhook_allow: tuple[Annotated[str, AfterValidator(_allowed)], ...] = Field(
        default=(), examples=[["10.1.0.0/16", "hooks.internal"]]
    )
    """Private networks, addresses and host names that completion webhooks may go to."""
    api_url: str | None = Field(default=None, examples=["https://api.example.com/dovecote"])
    """The address at which clients reach the API, with a path prefix if a proxy adds one. Links in webhooks and the Location of a
    submit begin with it. Default: public_url, unless callbacks have a port of their own."""
    keep_alive: int = Field(default=75, ge=1, le=3600)
    """Seconds that an idle connection stays open. Set it higher than that of the proxy in front, which is often 60 s."""
    max_body: int = Field(default=32 * 2**20, ge=2**20, le=256 * 2**20)
    """Bytes of a request body. More than 1 MiB is allowed for media only."""
    max_streams: int = Field(default=5000, ge=0, le=100_000)
    """How many event streams one process serves at once."""
    on_uncertain: Policy = "hold"
    """The policy for a task when it stays unknown whether it was bought: "hold" waits until its deadline,
    "fail" ends it, "resubmit_once" buys it again, perhaps a second time."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged."""
    log_format: Literal["text", "json"] = "text"
    """The format of a log line: "text" with key=value fields, or one "json" object."""
    shutdown_timeout: float | None = Field(default=None, ge=0, le=3600, examples=[150])
    """Seconds for which a stop waits for work in flight. Default: as long as the slowest submit to a configured upstream may take."""
    webhook_ca_file: Path | None = Field(default=None, examples=["/etc/ssl/internal-ca.pem"])
    """A file with CA certificates in PEM format that are trusted for completion webhooks, besides the usual ones."""
    routes: Mapping[str, tuple[str, ...]] = Field(default_factory=dict, examples=[{"runway": ["elkapi", "runwayml"]}])
    """Family and the upstreams that may serve it, in order. Default: all configured upstreams, gateways first."""
    on_uncertain_by_client: Mapping[str, Policy] = Field(default_factory=dict, examples=[{"shop": "fail"}])
    """The policy of on_uncertain for single clients. A task may set its own."""
    doors: DoorSettings = Field(default_factory=DoorSettings)
    """The APIs of other services that Dovecote serves, so that their clients need only another base URL."""
    money: MoneySettings = Field(default_factory=MoneySettings)
    """Prices, and what a task may cost."""
    observability: ObservabilitySettings = Field(default_factory=ObservabilitySettings)
    """How Dovecote is watched: metrics, traces, and a ping."""
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    """How long data is kept: 12h, 90d, 6w, 1y or "forever"."""
    storage: StorageSettings = Field(default_factory=StorageSettings)
    """Where kept results and uploads are stored"""
    uploads: UploadsSettings = Field(default_factory=UploadsSettings)
    """Files that clients upload as media for their tasks"""
    results: ResultsSettings = Field(default_factory=ResultsSettings)
    """Which results are kept, and how they are fetched and served"""
    upstreams: Mapping[str, UpstreamSettings] = Field(default_factory=dict)
    """The accounts that serve tasks, in order. Those known by name come first, and need only a key."""

    @property
    def webhook_rules(self) -> Rules:
        """The addresses that completion webhooks may reach."""
        return rules_of(
            self.webhook_allow,
            private=self.allow_private_webhooks,
            http=self.allow_http_webhooks,
            ports=self.webhook_ports,
        )

    @property
    def stores_files(self) -> bool:
        """Whether there is a place for files: a storage that is set, or the folder beside a SQLite database."""
        return self.storage.url is not None or parse_url(self.database_url).get_backend_name().startswith("sqlite")

    @property
    def gives_links(self) -> bool:
        """Whether a provider can fetch stored media: from Dovecote at public_url, or from the bucket by presigned URLs."""
        is_bucket = self.storage.url is not None and not self.storage.url.startswith("file:")
        return self.stores_files and (self.public_url is not None or is_bucket)

    @property
    def links_are_own(self) -> bool:
        """Whether providers fetch media from Dovecote itself, and not from the bucket."""
        return self.uploads.links == "own" if self.uploads.links is not None else self.public_url is not None

    def keeps_results_of(self, family: str) -> bool:
        """Return whether the results of a family are kept as copies."""
        wanted = "all" if self.results.keep is None and self.stores_files else self.results.keep
        return wanted == "all" and self.results.wants(family)

    def policy_of(self, client: str) -> Policy:
        """Return the policy for a client's uncertain tasks, unless a task names its own."""
        return self.on_uncertain_by_client.get(client, self.on_uncertain)

    @field_validator("database_url", "database_listen_url")
    @classmethod
    def _is_a_database(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not parse_url(url).get_backend_name().startswith("sqlite") and any(each.isspace() for each in url):
            raise ValueError("contains a blank; remove it")
        check_files(url)
        return url

    @property
    def links_url(self) -> str | None:
        """The address that links to the API begin with; None where it is unknown."""
        return self.api_url or (self.public_url if self.callback_port is None else None)

    @field_validator("public_url", "api_url")
    @classmethod
    def _is_reachable(cls, url: str | None) -> str | None:
        return values.check_http_url(url) if url else None

    @field_validator("api_keys")
    @classmethod
    def _are_keys(cls, keys: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
        texts = [key.get_secret_value() for key in keys.values()]
        # Mistakes are counted and not named: a key that was misread may have become a name.
        short = sum(len(text) < values.MIN_API_KEY for text in texts)
        if short:
            raise ValueError(
                f"{short} of {len(keys)} is shorter than {values.MIN_API_KEY} characters; try: openssl rand -hex 24"
            )
        for client, key in keys.items():
            if not client or values.fault_in(client, blanks_allowed=True):
                raise ValueError("the name of a client is empty or contains an invisible character; remove it")
            values.check_secret(key, values.MIN_API_KEY)
        if len(set(texts)) < len(texts):
            raise ValueError("two clients have the same key; give each its own")
        return keys

    @field_validator("operators")
    @classmethod
    def _have_keys(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        unknown = sum(name not in info.data.get("api_keys", names) for name in names)
        if unknown:  # counted and not named, as above
            raise ValueError(f"{unknown} of {len(names)} is no name in api_keys: an operator needs a key there")
        return names

    @field_validator("webhook_ca_file")
    @classmethod
    def _holds_certificates(cls, path: Path | None) -> Path | None:
        return None if path is None else values.check_ca_file(path)

    @field_validator("webhook_secret")
    @classmethod
    def _is_standard(cls, secret: SecretStr | None) -> SecretStr | None:
        return None if secret is None else values.check_webhook_secret(secret)

    @field_validator("callback_secret")
    @classmethod
    def _is_long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        return None if secret is None else values.check_secret(secret, values.MIN_CALLBACK_SECRET)

    @field_validator("upstreams")
    @classmethod
    def _have_plain_names(cls, upstreams: Mapping[str, UpstreamSettings]) -> Mapping[str, UpstreamSettings]:
        odd = sum(not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) for name in upstreams)
        if odd:
            raise ValueError(f"{odd} has a name with other characters than letters, digits, and . _ -")
        return upstreams

    @model_validator(mode="after")
    def _links_lead_somewhere(self) -> Self:
        if self.uploads.links == "own" and self.public_url is None:
            raise ValueError("uploads.links: set public_url, the address at which providers reach this Dovecote")
        if self.uploads.links == "presigned" and (self.storage.url is None or self.storage.url.startswith("file:")):
            raise ValueError("uploads.links: set storage.url to a bucket, since a folder has no presigned URLs")
        return self

    @model_validator(mode="after")
    def _results_have_a_place(self) -> Self:
        if self.results.keep == "all" and not self.stores_files:
            raise ValueError("results.keep: set storage.url, since there is no SQLite database with a folder beside it")
        return self

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Self:
        mistakes: list[str] = []
        for family, names in self.routes.items():
            where = f"routes.{family[:80]}"
            if family not in FAMILIES:
                mistakes.append(f"{where}: there is no such family{nearest(family, FAMILIES)}")
            if not names:
                mistakes.append(f"{where}: names no upstream; name at least one, or leave it out")
            known = {*self.upstreams, *PROVIDERS}
            mistakes += [
                f"{where}: no upstream {name[:80]!r} is configured{nearest(name, known)}"
                for name in names
                if name not in known
            ]
            if len(set(names)) < len(names):
                mistakes.append(f"{where}: an upstream is named twice")
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


SECTIONS: Mapping[str, type[Strict]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Strict)
}
"""The settings that are tables of settings, such as ``[retention]``, by name."""
