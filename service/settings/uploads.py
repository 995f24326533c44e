"""The settings of uploads: files that clients give as media, and the links by which providers fetch media."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from service.settings.strict import Strict
from service.settings.values import check_span, read_span


class UploadsSettings(Strict):
    """How large uploads may be, how long they are kept, and from where providers fetch media."""

    max_size: int = Field(default=200 * 2**20, ge=2**10)
    """Bytes of one upload."""
    quota: int = Field(default=10 * 2**30, ge=2**10)
    """Bytes of all uploads of a client that are kept at a time."""
    keep: Annotated[str, AfterValidator(check_span)] = "24h"
    """How long an upload is kept, such as 12h or 7d. One that a task takes is kept until the task's deadline, too."""
    links: Literal["own", "presigned"] | None = Field(default=None, examples=["presigned"])
    """From where providers fetch media: "own" is Dovecote at public_url, "presigned" is the bucket. Default: "own" with a public_url."""

    @property
    def kept_for(self) -> dt.timedelta:
        """How long an upload is kept."""
        return read_span(self.keep) or dt.timedelta(days=36_500)
