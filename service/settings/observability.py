"""The settings by which an operator watches Dovecote: metrics, traces, and a ping to a dead man's switch."""

from pydantic import Field, SecretStr, field_validator

from service.settings import values
from service.settings.strict import Strict


class ObservabilitySettings(Strict):
    """How Dovecote is watched: metrics, traces, and a ping."""

    metrics_listen: str | None = Field(default=None, examples=["127.0.0.1:9464"])
    """The address and port of this process's metrics, without a key, as HOST:PORT; port 0 selects a free one. Default: only
    `/metrics` of the API, for a key with the scope metrics."""

    ping_url: SecretStr | None = Field(default=None, examples=["https://hc-ping.com/your-uuid"])
    """A dead man's switch, such as a check of healthchecks.io. While everything works it gets a POST; else one with /fail behind the path."""
    ping_every: float = Field(default=60.0, ge=5, le=86_400)
    """Seconds between two pings, over all processes together."""

    traces: bool = False
    """Whether each task has a trace by OpenTelemetry, sent by OTLP. It needs dovecote[otel]; OTEL_EXPORTER_OTLP_ENDPOINT says where to."""

    @field_validator("ping_url")
    @classmethod
    def _is_a_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            parts = values.parts_of(url.get_secret_value())
            if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment:
                raise ValueError("is not an http(s) URL, such as https://hc-ping.com/your-uuid")
        return url

    @field_validator("metrics_listen")
    @classmethod
    def _is_an_address(cls, address: str | None) -> str | None:
        if address is not None:
            values.address_of(address)
        return address
