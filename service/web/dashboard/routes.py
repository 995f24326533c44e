"""The routes of the dashboard."""

import dataclasses
import functools
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.domain.api_key import Scope
from service.web.auth.bearer import Authenticator
from service.web.dashboard import (
    acts,
    budgets,
    bulk,
    callbacks,
    claims,
    counts,
    endpoints,
    export,
    ledger,
    live,
    money,
    results,
    signin,
    start,
    submit,
    task,
    tasks,
    upstreams,
    views,
    webhooks,
)
from service.web.dashboard.templating import STATIC
from service.web.dashboard.visit import ROOT, Page, Visit, about, answered
from service.web.problems import Problem

_WITHOUT_NAVIGATION = frozenset(
    {
        "",
        "/live",
        "/tasks.csv",
        "/tasks/live",
        "/tasks/{id}.json",
        "/tasks/{id}/results/{n}",
        "/ledger.csv",
        "/money.csv",
        "/money/claims.csv",
    }
)


async def to_tasks(visit: Visit) -> Response:
    """Lead to the first page."""
    return visit.redirect("/tasks")


PAGES = (
    Page(path="", handler=to_tasks),
    Page(path="/start", handler=start.start_page),
    Page(path="/live", handler=live.stream),
    Page(path="/tasks", handler=tasks.list_page),
    Page(path="/tasks.csv", handler=export.tasks_csv),
    Page(path="/tasks/live", handler=tasks.live_rows),
    Page(path="/tasks/all", handler=bulk.ask, scope=Scope.SUBMIT),
    Page(path="/tasks/all", handler=bulk.run, method="POST", scope=Scope.SUBMIT),
    Page(path="/tasks/bulk", handler=acts.bulk, method="POST", scope=Scope.SUBMIT),
    Page(path="/tasks/{id}.json", handler=task.task_json),
    Page(path="/tasks/{id}/results/{n}", handler=results.kept_file),
    Page(path="/tasks/{id}", handler=task.task_page),
    Page(path="/tasks/{id}/follow", handler=submit.follow, method="POST", scope=Scope.SUBMIT),
    Page(path="/tasks/{id}/input", handler=acts.send_input, method="POST", scope=Scope.SUBMIT),
    Page(path="/callbacks", handler=callbacks.inbox_page),
    Page(path="/callbacks/rerun", handler=callbacks.rerun_callbacks, method="POST", scope=Scope.SUBMIT),
    Page(path="/upstreams", handler=upstreams.upstreams_page),
    Page(path="/upstreams/{name}/{act}", handler=upstreams.act_on_upstream, method="POST", scope=Scope.ADMIN),
    Page(path="/webhooks", handler=webhooks.webhooks_page),
    Page(path="/webhooks/replay", handler=webhooks.replay_many, method="POST", scope=Scope.SUBMIT),
    Page(path="/webhooks/messages/{id}/replay", handler=webhooks.replay_message, method="POST", scope=Scope.SUBMIT),
    Page(path="/webhooks/endpoints/new", handler=endpoints.new_page, scope=Scope.SUBMIT),
    Page(path="/webhooks/endpoints", handler=endpoints.register, method="POST", scope=Scope.SUBMIT),
    Page(path="/webhooks/endpoints/{id}", handler=endpoints.endpoint_page, scope=Scope.SUBMIT),
    Page(path="/webhooks/endpoints/{id}", handler=endpoints.change, method="POST", scope=Scope.SUBMIT),
    Page(path="/webhooks/endpoints/{id}/rotate", handler=endpoints.rotate, method="POST", scope=Scope.SUBMIT),
    Page(path="/webhooks/endpoints/{id}/remove", handler=endpoints.remove, method="POST", scope=Scope.SUBMIT),
    Page(path="/webhooks/endpoints/{id}/test", handler=webhooks.test_endpoint, method="POST", scope=Scope.SUBMIT),
    Page(path="/ledger", handler=ledger.ledger_page),
    Page(path="/ledger.csv", handler=ledger.ledger_csv),
    Page(path="/money", handler=money.money_page),
    Page(path="/money.csv", handler=money.money_csv),
    Page(path="/money/budgets", handler=budgets.budgets_page),
    Page(path="/money/budgets", handler=budgets.set_budget, method="POST", scope=Scope.ADMIN),
    Page(path="/money/budgets/remove", handler=budgets.remove_budget, method="POST", scope=Scope.ADMIN),
    Page(path="/money/claims", handler=claims.claims_page),
    Page(path="/money/claims.csv", handler=claims.claims_csv),
    Page(path="/money/claims/{id}", handler=claims.mark_claim, method="POST", scope=Scope.ADMIN),
    Page(path="/submit", handler=submit.form_page, scope=Scope.SUBMIT),
    Page(path="/submit", handler=submit.submit, method="POST", scope=Scope.SUBMIT),
    Page(path="/tasks/{id}/cancel", handler=acts.cancel_task, method="POST", scope=Scope.SUBMIT),
    Page(path="/tasks/{id}/refresh", handler=acts.refresh_task, method="POST", scope=Scope.SUBMIT),
    Page(path="/tasks/{id}/retry", handler=acts.retry_task, method="POST", scope=Scope.SUBMIT),
    Page(path="/sign-out", handler=signin.sign_out, method="POST"),
    Page(path="/views", handler=views.keep_view, method="POST"),
    Page(path="/theme", handler=signin.choose_theme, method="POST"),
)


async def static_file(request: Request) -> Response:
    """Return a static file. It has no secret, and needs no session."""
    found = STATIC.get(request.path_params["name"])
    return (
        about(request, Problem(404, "not_found", "there is no such file")) if found is None else found.response(request)
    )


async def nothing(request: Request) -> Response:
    """Return the page about an address that does not exist."""
    return about(request, Problem(404, "not_found", "There is no page at this address."))


def _with_counts(page: Page) -> Page:
    """Return a page whose navigation shows current numbers."""
    if page.method == "POST" or page.path in _WITHOUT_NAVIGATION:
        return page

    async def counted(visit: Visit) -> Response:
        await counts.refresh(visit)
        return await page.handler(visit)

    return dataclasses.replace(page, handler=counted)


def routes(authenticator: Authenticator) -> list[Route]:
    """Return the routes of all pages."""
    open_to_all: list[tuple[str, str, Callable[[Request, Authenticator], Awaitable[Response]]]] = [
        ("GET", "/sign-in", signin.form),
        ("POST", "/sign-in", signin.sign_in),
    ]
    return [
        *(_with_counts(page).route(authenticator) for page in PAGES),
        *(_open(method, path, handler, authenticator) for method, path, handler in open_to_all),
        Route(f"{ROOT}/static/{{name}}", static_file, name="ui static"),
        Route(f"{ROOT}/{{path:path}}", nothing, methods=["GET", "POST"], name="ui nothing"),
    ]


def _open(
    method: str,
    path: str,
    handler: Callable[[Request, Authenticator], Awaitable[Response]],
    authenticator: Authenticator,
) -> Route:
    """Return the route of a page that needs no session."""

    async def answer(request: Request) -> Response:
        return await answered(request, functools.partial(handler, request, authenticator))

    return Route(ROOT + path, answer, methods=[method], name=f"ui {method} {path}")
