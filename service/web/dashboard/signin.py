"""Sign in with an API key, sign out, and choose a theme."""

import datetime as dt
import secrets
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service.domain.api_key import hash_key
from service.flows.context import Context, log
from service.web.auth.bearer import Authenticator
from service.web.dashboard import session as sessions
from service.web.dashboard.session import LIFETIME, Session
from service.web.dashboard.templating import rendered
from service.web.dashboard.visit import (
    ROOT,
    THEME,
    THEMES,
    Visit,
    base_of,
    html,
    is_secure,
    read_form,
    refuse_other_sites,
    theme_of,
    to,
)
from service.web.problems import Problem

MAX_KEY: Final = 500
"""Characters of an API key."""
_YEAR: Final = 365 * 86_400
_WHY: Final = {
    "unauthorized": "Your session has ended. Sign in again.",
    "unknown_key": "The key of your session is unknown. Sign in with another key.",
    "expired_key": "The key of your session has expired. Ask an operator for another key.",
    "revoked_key": "The key of your session was revoked. Ask an operator for another key.",
}
_WRONG: Final = {
    "unknown_key": "This Dovecote has no such key. Check that you copied all of it.",
    "expired_key": "This key has expired. Ask an operator for another key.",
    "revoked_key": "This key was revoked. Ask an operator for another key.",
}


async def form(request: Request, authenticator: Authenticator) -> Response:
    """Return the sign-in page. Where no API key exists, lead to the tasks: there is nothing to sign in with."""
    try:
        await authenticator.sole_caller(request)
    except Problem as problem:
        if problem.status != 401:  # noqa: PLR2004 - the status of a missing key
            raise
    else:
        return to(request, f"{base_of(request.app.state.context)}/tasks")
    why = _WHY.get(request.query_params.get("why", ""), "")
    return _page(request, why=why, following=_following(request, request.query_params.get("next", "")))


async def sign_in(request: Request, authenticator: Authenticator) -> Response:
    """Exchange an API key for a session."""
    refuse_other_sites(request)
    context: Context = request.app.state.context
    fields = await read_form(request, "sign-in")
    key = fields.get("key", [""])[0].strip()
    following = _following(request, fields.get("next", [""])[0])
    if not key:
        return _page(request, wrong="Paste an API key.", following=following, status=422)
    digest = hash_key(key[:MAX_KEY])
    try:
        caller = await authenticator.caller_of(context, digest)
    except Problem as problem:
        if problem.code not in _WRONG:
            raise
        log.warning("dashboard sign-in refused code=%s", problem.code)
        return _page(request, wrong=_WRONG[problem.code], following=following, status=401)
    log.info("dashboard session opened client=%s key=%s", caller.client, caller.prefix or caller.key)
    session = Session(digest, context.now() + LIFETIME, secrets.token_hex(16))
    answer = to(request, following or f"{base_of(context)}/tasks")
    value = sessions.write_session(session, sessions.signing_key(context.webhook_secret))
    secure = is_secure(request)
    answer.set_cookie(
        sessions.cookie_name(secure=secure),
        value,
        max_age=LIFETIME // dt.timedelta(seconds=1),
        path=base_of(context),
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    return answer


async def sign_out(visit: Visit) -> Response:
    """End the session of this browser."""
    secure = is_secure(visit.http)
    answer = to(visit.http, visit.url("/sign-in"))
    answer.delete_cookie(
        sessions.cookie_name(secure=secure),
        path=base_of(visit.context),
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    return answer


async def choose_theme(visit: Visit) -> Response:
    """Remember a theme in this browser, and lead back to the page."""
    answer = to(visit.http, _following(visit.http, visit.field("next")) or visit.url("/tasks"))
    chosen = visit.field("theme")
    kept = {"path": base_of(visit.context), "secure": is_secure(visit.http), "httponly": True}
    if chosen in THEMES:
        answer.set_cookie(THEME, chosen, max_age=_YEAR, samesite="lax", **kept)  # type: ignore[arg-type]
    else:
        answer.delete_cookie(THEME, samesite="lax", **kept)  # type: ignore[arg-type]
    return answer


def _following(request: Request, address: str) -> str:
    """Return the page to lead to; empty where the address is none of ours."""
    base = base_of(request.app.state.context)
    own = address.removeprefix(ROOT) if address.startswith(ROOT) else address.removeprefix(base)
    known = address.startswith((f"{base}/", f"{ROOT}/")) and "\\" not in address and not own.startswith("//")
    return f"{base}{own}" if known and address.isprintable() else ""


def _page(request: Request, *, why: str = "", wrong: str = "", following: str = "", status: int = 200) -> Response:
    body = rendered(
        "signin.html",
        title="Sign in",
        why=why,
        wrong=wrong,
        following=following,
        hours=LIFETIME // dt.timedelta(hours=1),
        base=base_of(request.app.state.context),
        theme=theme_of(request),
    )
    return html(body, status)
