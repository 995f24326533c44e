"""When a signed URL expires, read from the URL itself: S3 and its copies, CloudFront, Azure, and tokens."""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

from service.providers.read import fields, first_json, moment

_MAX_PARAMETERS = 100
_MAX_TOKEN = 4096
_MAX_SECONDS = 10 * 366 * 86400
_DATE_AND_SECONDS = ("x-amz", "x-goog", "x-tos", "x-oss")
"""The prefixes of parameters that state when a URL was signed, and for how many seconds."""
_UNIX_TIMES: tuple[tuple[str, frozenset[str]], ...] = (
    ("expires", frozenset({"signature", "key-pair-id", "ossaccesskeyid", "googleaccessid", "awsaccesskeyid"})),
    ("exp", frozenset({"sig"})),
    ("se", frozenset({"sig"})),
)
"""Parameters that state the expiry, and those of which one stands beside it in a signed URL."""
_HEXADECIMAL = ("ex", "hm")
"""The same of Discord, where Midjourney's pictures are: a Unix time in hexadecimal, and the signature."""
_TOKENS = ("_jwt", "jwt", "token")
"""Parameters that may be a JSON Web Token, such as Runway's."""


def signed_until(url: str) -> datetime | None:
    """Return when a signed URL expires; None for an unsigned one, and for one without an expiry."""
    if "?" not in url or url.startswith("data:"):
        return None
    try:
        pairs = parse_qsl(urlsplit(url).query, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        return None
    given = {name.lower(): value for name, value in pairs}
    return _signed_for(given) or _stated(given) or _of_token(given)


def _signed_for(given: Mapping[str, str]) -> datetime | None:
    for prefix in _DATE_AND_SECONDS:
        signed = re.fullmatch(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", given.get(f"{prefix}-date", ""))
        seconds = given.get(f"{prefix}-expires", "")
        if signed is not None and re.fullmatch(r"\d{1,9}", seconds) and int(seconds) <= _MAX_SECONDS:
            year, month, day, *time = signed.groups()
            start = moment(f"{year}-{month}-{day}T{':'.join(time)}Z")
            return None if start is None else start + timedelta(seconds=int(seconds))
    return None


def _stated(given: Mapping[str, str]) -> datetime | None:
    for name, beside in _UNIX_TIMES:
        if name in given and not beside.isdisjoint(given):
            return moment(given[name])
    time, signature = _HEXADECIMAL
    if signature in given and re.fullmatch(r"[0-9a-fA-F]{8}", given.get(time, "")):
        return moment(int(given[time], 16))
    return None


def _of_token(given: Mapping[str, str]) -> datetime | None:
    for name in _TOKENS:
        _, _, rest = given.get(name, "").partition(".")
        payload = rest.partition(".")[0]
        if not payload or len(payload) > _MAX_TOKEN:
            continue
        try:
            claims = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
        except (binascii.Error, ValueError):
            continue
        if (until := moment(fields(first_json(claims)).get("exp"))) is not None:
            return until
    return None
