"""The last step of reading: outputs with a usable address, and no more of them than a task keeps."""

import dataclasses
import re
from urllib.parse import urljoin, urlsplit

from service.domain.task import Result, Update
from service.providers.signed_urls import signed_until

MAX_RESULTS = 200
MAX_ACTIONS = 100
_GATEWAY_PATH = re.compile(r"^(/mj-?\w*)?/mj/(image|video)s?/|^/v1/(videos?|images?|files)/[^/]+/content$|^/suno/act/")
"""Paths under which gateways themselves serve outputs. The host before them is often the gateway's internal name."""
_API_PATH = re.compile(r"^/v1/(videos?|images?|files)/[^/]+/content$")
"""Routes of the API that return an output to a holder of the key: they are below a path in the base URL, too."""
_ABSOLUTE = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?/[!-~]*")
_EMPTY_PART = re.compile(r"[?#;]([?#;]|$)")
"""A query, fragment or parameters without content: a URL is written without them."""
_LOOPBACK = re.compile(r"^(localhost|127(\.\d{1,3}){3}|0\.0\.0\.0|::1)$")


def completed(update: Update, base_url: str) -> Update:
    """Return an update with absolute addresses and the expiries of signed ones, and at most 200 results and 100 actions.

    :param base_url: the upstream's, which relative addresses are below
    """
    if not update.results and not update.actions:
        return update
    kept, actions = update.results[:MAX_RESULTS], update.actions[:MAX_ACTIONS]
    omitted = len(update.results) - len(kept) + len(update.actions) - len(actions)
    results = tuple(_dated(_absolute(result, base_url)) for result in kept)
    if results == update.results and not omitted:
        return update
    return dataclasses.replace(update, results=results, actions=actions, omitted=update.omitted + omitted)


def _absolute(result: Result, base_url: str) -> Result:
    if result.url is None or result.url[:5].lower() == "data:":
        return result
    if _API_PATH.match(result.url):
        return dataclasses.replace(result, url=base_url.rstrip("/") + result.url)
    url = result.url if _is_whole(result.url) else urljoin(base_url, result.url)
    parts = urlsplit(url)
    if is_internal(url) and parts.netloc != urlsplit(base_url).netloc and _GATEWAY_PATH.search(parts.path):
        url = urljoin(base_url, parts._replace(scheme="", netloc="").geturl())
    return result if url == result.url else dataclasses.replace(result, url=url)


def _is_whole(url: str) -> bool:
    """Return whether a URL is absolute and would be joined to any other as it is, which takes twenty times as long."""
    return _ABSOLUTE.fullmatch(url) is not None and _EMPTY_PART.search(url) is None


def _dated(result: Result) -> Result:
    """Return a result with the expiry that its signed URL states."""
    if result.expires_at is not None or result.url is None:
        return result
    expires_at = signed_until(result.url)
    return result if expires_at is None else dataclasses.replace(result, expires_at=expires_at)


def is_internal(url: str) -> bool:
    """Return whether an address leads nowhere outside the upstream's own network: a loopback or dotless host."""
    try:
        host = (urlsplit(url).hostname or "").lower()
    except ValueError:
        return False
    return bool(host) and (_LOOPBACK.match(host) is not None or ("." not in host and ":" not in host))
