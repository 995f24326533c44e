"""A visit to a page of the dashboard: who asks, what the visitor may do, and how the answer is written."""

import dataclasses
import datetime as dt
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal
from urllib.parse import urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.domain.api_key import Scope
from service.domain.form_fields import form_fields
from service.flows.context import Context, log
from service.logs import request_id
from service.store.database import StoreUnavailable
from service.web.auth.bearer import Authenticator, Caller
from service.web.dashboard import session as sessions
from service.web.dashboard.session import Session
from service.web.dashboard.templating import rendered
from service.web.problems import TITLES, Problem
from service.web.request_body import BodyBudget, read_body

ROOT: Final = "/ui"
"""The path below which every page of the dashboard is."""
THEME: Final = "dovecote_theme"
THEMES: Final = ("light", "dark")
POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; media-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_SEE_OTHER: Final = 303
_MAX_FORM: Final = 256 * 1024
"""Bytes of a form."""
_MAX_FIELDS: Final = 300
_MAX_DIGITS: Final = 6

_SIGN_IN_AGAIN: Final = frozenset({"unauthorized", "unknown_key", "expired_key", "revoked_key"})


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the navigation."""

    path: str
    name: str
    icon: str
    words: str
    operator: bool = False
    """Whether it is for operators only."""


ENTRIES: tuple[Entry, ...] = (
    Entry("/callbacks", "callbacks", "inbox", "Callbacks", operator=True),
    Entry("/upstreams", "upstreams", "upstreams", "Upstreams"),
    Entry("/webhooks", "webhooks", "hook", "Webhooks"),
    Entry("/money", "money", "buy", "Money"),
    Entry("/ledger", "ledger", "ledger", "Ledger", operator=True),
)
"""The pages besides the tasks."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request for a page by somebody who may read it."""

    http: Request
    context: Context
    authenticator: Authenticator
    caller: Caller
    session: Session | None
    """None where no API key exists."""
    now: dt.datetime
    form: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)

    def field(self, name: str, default: str = "") -> str:
        """Return a field of the form."""
        return self.form.get(name, [default])[0]

    def query(self, name: str, default: str = "") -> str:
        """Return a parameter of the address."""
        return self.http.query_params.get(name, default).replace("\x00", "")

    def number(self, name: str) -> int | None:
        """Return a parameter of the address that is a number; None where it is none."""
        stated = self.query(name)
        return int(stated) if stated.isascii() and stated.isdecimal() and len(stated) <= _MAX_DIGITS else None

    @property
    def sees_only(self) -> str | None:
        """The client whose rows alone are visible; None: every client's."""
        return self.caller.sees_only

    @property
    def may_change(self) -> bool:
        """Whether the key may change anything. Without that, pages have no buttons."""
        return Scope.SUBMIT in self.caller.scopes

    @property
    def is_operator(self) -> bool:
        """Whether the key sees and changes every client's rows."""
        return Scope.ADMIN in self.caller.scopes

    @property
    def key_name(self) -> str:
        """The visible part of the key, or where it comes from."""
        if self.session is None:
            return "no API key exists"
        return self.caller.prefix or "a key of the settings"

    @property
    def role(self) -> str:
        """The strongest scope of the key."""
        return next((str(each) for each in (Scope.ADMIN, Scope.SUBMIT) if each in self.caller.scopes), str(Scope.READ))

    def entries(self) -> tuple["Entry", ...]:
        """Return the entries of the navigation besides the tasks."""
        return tuple(each for each in ENTRIES if self.is_operator or not each.operator)

    @property
    def wants_part(self) -> bool:
        """Whether a script of the page asks, which replaces a part of it."""
        return self.http.headers.get("hx-request") == "true"

    def url(self, path: str, **query: Any) -> str:
        """Return the address of a page."""
        asked = urlencode([(name, value) for name, value in query.items() if value not in (None, "")], doseq=True)
        return f"{base_of(self.context)}{path}{'?' if asked else ''}{asked}"

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Return a page."""
        shown = {"title": "", "counts": self.counts(), **values}
        body = rendered(template, visit=self, now=self.now, token=self.token(), **frame_of(self), **shown)
        return html(body, status)

    @property
    def counted_as(self) -> tuple[str | None, str]:
        """The key of the numbers: they depend on what the visitor sees, and on the client, whose own endpoints count."""
        return self.sees_only, self.caller.client

    def counts(self) -> Mapping[str, int]:
        """Return what needs attention, by page, as it was counted last."""
        kept: Mapping[tuple[str | None, str], Any] = self.http.app.state.counted
        known = kept.get(self.counted_as)
        return {} if known is None else known.numbers

    def token(self) -> str:
        """Return the token of this visitor's forms."""
        return sessions.form_token(self.session, sessions.signing_key(self.context.webhook_secret))

    def redirect(self, path: str, **query: Any) -> Response:
        """Return an answer that leads to a page."""
        return to(self.http, self.url(path, **query))


Handler = Callable[[Visit], Awaitable[Response]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page, or the target of a form."""

    path: str
    """Below :data:`ROOT`."""
    handler: Handler
    method: Literal["GET", "POST"] = "GET"
    scope: Scope = Scope.READ

    def route(self, authenticator: Authenticator) -> Route:
        """Return the route."""

        async def answer(request: Request) -> Response:
            return await answered(request, functools.partial(_visited, self, request, authenticator))

        return Route(ROOT + self.path, answer, methods=[self.method], name=f"ui {self.method} {self.path}")


async def _visited(page: Page, request: Request, authenticator: Authenticator) -> Response:
    context: Context = request.app.state.context
    session = session_of(request)
    caller = await caller_of(request, authenticator, session)
    request.state.client_name = caller.client  # for the access log
    if page.scope not in caller.scopes:
        detail = f"a key with the scope {page.scope} is required; sign in with another key"
        raise Problem(403, "forbidden", detail)
    form: Mapping[str, list[str]] = {}
    if page.method == "POST":
        refuse_other_sites(request)
        form = await read_form(request, caller.client)
        key = sessions.signing_key(context.webhook_secret)
        if not sessions.is_form_token(form.get("token", [""])[0], session, key):
            raise Problem(403, "forbidden", "the form is of an earlier session; open the page again and repeat it")
    visit = Visit(
        http=request,
        context=context,
        authenticator=authenticator,
        caller=caller,
        session=session,
        now=context.now(),
        form=form,
    )
    return await page.handler(visit)


async def answered(request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
    """Return the answer, or a page about the error."""
    context: Context = request.app.state.context
    try:
        return await answer()
    except Problem as problem:
        if problem.status == 401:  # noqa: PLR2004 - the status of a missing key
            return _to_sign_in(request, context, problem)
        return about(request, problem)
    except HTTPException:
        raise
    except StoreUnavailable as error:
        log.warning("request failed status=503 reason=%s", error)
        detail = "The database does not answer. Nothing that was stored is lost. Repeat the request in a moment."
        return about(request, Problem(503, "unavailable", detail, headers={"Retry-After": "5"}))
    except ClientDisconnect:
        return Response(status_code=400)  # nothing reads it
    except Exception:  # noqa: BLE001 - the page says where the details are
        log.exception("request failed status=500 method=%s path=%s", request.method, request.scope["path"][:80])
        return about(request, Problem(500, "internal_error", "The details are in the log of this server."))


def _to_sign_in(request: Request, context: Context, problem: Problem) -> Response:
    """Lead to the sign-in page, and back after it."""
    query = {"why": problem.code} if session_cookie(request) and problem.code in _SIGN_IN_AGAIN else {}
    if request.method == "GET" and not _is_live(request):
        asked = request.scope["query_string"].decode("latin-1")
        query["next"] = request.scope["path"] + (f"?{asked}" if asked else "")
    address = f"{base_of(context)}/sign-in" + (f"?{urlencode(query)}" if query else "")
    if _is_live(request):
        return Response(status_code=204)  # makes a browser stop reconnecting
    return to(request, address)


def _is_live(request: Request) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


def about(request: Request, problem: Problem) -> Response:
    """Return the page about an error."""
    context: Context = request.app.state.context
    report = {"status": problem.status, "code": problem.code, "request_id": request_id.get()}
    body = rendered(
        "error.html",
        title=TITLES[problem.code],
        detail=problem.detail[:1].upper() + problem.detail[1:],
        mistakes=list(problem.mistakes),
        report=report,
        base=base_of(context),
        theme=theme_of(request),
    )
    return html(body, problem.status, problem.headers)


def html(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a page as a response.

    Its referrer policy lets a browser name the origin of a form that it sends here, and nothing to other sites.
    """
    own = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}
    return Response(body, status, {**(headers or {}), **own}, "text/html; charset=utf-8")


def frame_of(visit: Visit) -> dict[str, Any]:
    """Return the values that the frame of every page shows."""
    base = base_of(visit.context)
    return {"base": base, "theme": theme_of(visit.http), "path": base + visit.http.scope["path"].removeprefix(ROOT)}


def base_of(context: Context) -> str:
    """Return the path of the dashboard: with the prefix that a proxy adds, as far as ``api_url`` names it."""
    return urlsplit(context.settings.api_url or "").path.rstrip("/") + ROOT


def theme_of(request: Request) -> str:
    """Return the theme that the visitor has chosen; empty: that of the system."""
    chosen = request.cookies.get(THEME, "")
    return chosen if chosen in THEMES else ""


def is_secure(request: Request) -> bool:
    """Return whether the visitor's browser uses https, so that a cookie may be marked as secure."""
    context: Context = request.app.state.context
    return request.scope["scheme"] == "https" or (context.settings.links_url or "").startswith("https:")


def session_cookie(request: Request) -> str:
    """Return the value of the session's cookie."""
    return request.cookies.get(sessions.cookie_name(secure=is_secure(request)), "")


def session_of(request: Request) -> Session | None:
    """Return the visitor's session, if there is one that has not ended."""
    context: Context = request.app.state.context
    key = sessions.signing_key(context.webhook_secret)
    return sessions.read_session(session_cookie(request), key, now=context.now())


async def caller_of(request: Request, authenticator: Authenticator, session: Session | None) -> Caller:
    """Return the owner of a session, or the only client where no API key exists.

    :raises Problem: 401 without a session, and where its key is no longer valid; 421 and 403 as the API
    """
    context: Context = request.app.state.context
    if session is not None:
        return await authenticator.caller_of(context, session.digest)
    return await authenticator.sole_caller(request)


def refuse_other_sites(request: Request) -> None:
    """Refuse a form that another site has sent.

    :raises Problem: 403
    """
    site = request.headers.get("sec-fetch-site")
    if site is None:  # an old browser, or plain http: its Origin names the site
        context: Context = request.app.state.context
        own = {request.headers.get("host", ""), urlsplit(context.settings.links_url or "").netloc}
        origin = request.headers.get("origin")  # "null" for a page without an origin of its own: no page of ours
        named = None if origin is None else origin.partition("://")[2]
        site = "same-origin" if named is None or (named and named in own) else "cross-site"
    if site not in {"same-origin", "none"}:
        raise Problem(403, "forbidden", "the form was sent by another site; open it here")


async def read_form(request: Request, client: str) -> Mapping[str, list[str]]:
    """Return the fields of a form.

    :raises Problem: 408, 413, 415 or 422
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "unsupported_media_type", "send the form as application/x-www-form-urlencoded")
    bodies: BodyBudget = request.app.state.bodies
    with bodies.lease(client) as lease:
        body = bytes(await read_body(request, _MAX_FORM, lease))
    fields: dict[str, list[str]] = {}
    try:
        read = form_fields(body, _MAX_FIELDS)
    except ValueError:
        raise Problem(422, "invalid_request", f"the form is damaged or has more than {_MAX_FIELDS} fields") from None
    for name, value in read:
        fields.setdefault(name, []).append(value.replace("\x00", "").replace("\r\n", "\n"))
    return fields


def to(request: Request, address: str) -> Response:
    """Return an answer that leads a browser, or the script of a page, to another page."""
    if request.headers.get("hx-request") == "true":
        return Response(status_code=204, headers={"HX-Redirect": address})
    return RedirectResponse(address, _SEE_OTHER)
