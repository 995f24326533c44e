"""The settings by which an operator watches Dovecote: metrics."""

from pydantic import Field, field_validator

from service.settings import values
from service.settings.strict import Strict


class ObservabilitySettings(Strict):
    """How Dovecote is watched: metrics."""

    metrics_listen: str | None = Field(default=None, examples=["127.0.0.1:9464"])
    """The address and port of this process's metrics, without a key, as HOST:PORT; port 0 selects a free one. Default: only
    `/metrics` of the API, for a key with the scope metrics."""

    @field_validator("metrics_listen")
    @classmethod
    def _is_an_address(cls, address: str | None) -> str | None:
        if address is not None:
            values.address_of(address)
        return address
