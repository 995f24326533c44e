"""The calls about money: usage, claims and budgets, for both clients."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, TypeVar, Unpack
from urllib.parse import quote
from uuid import UUID

from dovecote.calls import given, page_of, value_of
from dovecote.fields import BudgetFields
from dovecote.money import BudgetRow, Claim
from dovecote.protocol import Call, Request, Session, read_document, send
from dovecote.values import Page, every, every_async

Value = TypeVar("Value")


def list_budgets(session: Session) -> Call[Sequence[BudgetRow]]:
    """List the budgets of the caller."""
    return page_of(BudgetRow, "budgets", (yield from send(session, Request(method="GET", path="/v1/budgets")))).items


def usage(session: Session, params: Mapping[str, Any]) -> Call[Sequence[Mapping[str, Any]]]:
    """Sum what was spent."""
    names = {"since": "from", "until": "to"}
    query = {names.get(name, name): value for name, value in given(params).items()}
    response = yield from send(session, Request(method="GET", path="/v1/usage", params=query))
    rows = read_document(response).get("rows")
    return rows if isinstance(rows, list) else []


def list_claims(session: Session, params: Mapping[str, Any], cursor: str | None) -> Call[Page[Claim]]:
    """List one page of claims, newest first."""
    query = given({**params, "cursor": cursor})
    return page_of(Claim, "claims", (yield from send(session, Request(method="GET", path="/v1/claims", params=query))))


def mark_claim(session: Session, claim: Claim | str | UUID, state: str, note: str | None) -> Call[Claim]:
    """Note what became of a claim."""
    submission = claim.submission if isinstance(claim, Claim) else str(claim)
    document = given({"state": state, "note": note})
    request = Request(method="POST", path=f"/v1/claims/{quote(submission, safe='')}", document=document)
    return value_of(Claim, (yield from send(session, request)))


def put_budget(session: Session, name: str, document: Mapping[str, Any]) -> Call[Sequence[BudgetRow]]:
    """Set a budget. Repeating it changes nothing."""
    request = Request(method="PUT", path=f"/v1/budgets/{quote(name, safe='')}", document=given(document))
    return page_of(BudgetRow, "budgets", (yield from send(session, request))).items


def delete_budget(session: Session, name: str) -> Call[Sequence[BudgetRow]]:
    """Remove a budget."""
    request = Request(method="DELETE", path=f"/v1/budgets/{quote(name, safe='')}")
    return page_of(BudgetRow, "budgets", (yield from send(session, request))).items


class Money:
    """The calls of the synchronous client about money."""

    _session: Session

    def _run(self, call: Call[Value]) -> Value:
        """Run a call; the client does it."""
        raise NotImplementedError

    def usage(
        self,
        *,
        group: str | None = None,
        since: str | None = None,
        until: str | None = None,
        client: str | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        """Return what was spent, as rows. Amounts of different units are in different rows.

        :param group: such as ``model,day``
        :param since: in RFC 3339, as ``until``
        :param client: for API keys with the scope ``admin``
        """
        return self._run(usage(self._session, {"group": group, "since": since, "until": until, "client": client}))

    def claims_page(
        self, *, upstream: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Page[Claim]:
        """List one page of what was charged and not delivered, newest first. It needs the scope ``admin``.

        :param cursor: ``next`` of the page before
        """
        return self._run(list_claims(self._session, {"upstream": upstream, "limit": limit}, cursor))

    def claims(self, *, upstream: str | None = None) -> Iterator[Claim]:
        """Yield what was charged and not delivered, newest first. Further pages are loaded as needed."""
        return every(lambda cursor: self.claims_page(upstream=upstream, cursor=cursor))

    def mark_claim(self, claim: Claim | str | UUID, state: str, *, note: str | None = None) -> Claim:
        """Note what became of a claim.

        :param state: ``open``, ``filed``, ``paid`` or ``denied``
        """
        return self._run(mark_claim(self._session, claim, state, note))

    def budgets(self) -> Sequence[BudgetRow]:
        """List your budgets: what is spent, held and left."""
        return self._run(list_budgets(self._session))

    def set_budget(self, name: str, limit: str, **fields: Unpack[BudgetFields]) -> Sequence[BudgetRow]:
        """Set a budget, or change it; return its parts. It needs the scope ``admin``.

        :param limit: a decimal number as text
        :param fields: see :class:`BudgetFields`: ``unit``, ``period``, ``client``, ``label``, ``soft``, ``over`` …
        """
        return self._run(put_budget(self._session, name, {"limit": limit, **fields}))

    def remove_budget(self, name: str) -> Sequence[BudgetRow]:
        """Remove a budget, and return its parts. It needs the scope ``admin``."""
        return self._run(delete_budget(self._session, name))


class AsyncMoney:
    """The calls of the asynchronous client about money."""

    _session: Session

    async def _run(self, call: Call[Value]) -> Value:
        """Run a call; the client does it."""
        raise NotImplementedError

    async def usage(
        self,
        *,
        group: str | None = None,
        since: str | None = None,
        until: str | None = None,
        client: str | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        """Return what was spent, as rows. Amounts of different units are in different rows.

        :param group: such as ``model,day``
        :param since: in RFC 3339, as ``until``
        :param client: for API keys with the scope ``admin``
        """
        return await self._run(usage(self._session, {"group": group, "since": since, "until": until, "client": client}))

    async def claims_page(
        self, *, upstream: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Page[Claim]:
        """List one page of what was charged and not delivered, newest first. It needs the scope ``admin``.

        :param cursor: ``next`` of the page before
        """
        return await self._run(list_claims(self._session, {"upstream": upstream, "limit": limit}, cursor))

    def claims(self, *, upstream: str | None = None) -> AsyncIterator[Claim]:
        """Yield what was charged and not delivered, newest first. Further pages are loaded as needed."""
        return every_async(lambda cursor: self.claims_page(upstream=upstream, cursor=cursor))

    async def mark_claim(self, claim: Claim | str | UUID, state: str, *, note: str | None = None) -> Claim:
        """Note what became of a claim.

        :param state: ``open``, ``filed``, ``paid`` or ``denied``
        """
        return await self._run(mark_claim(self._session, claim, state, note))

    async def budgets(self) -> Sequence[BudgetRow]:
        """List your budgets: what is spent, held and left."""
        return await self._run(list_budgets(self._session))

    async def set_budget(self, name: str, limit: str, **fields: Unpack[BudgetFields]) -> Sequence[BudgetRow]:
        """Set a budget, or change it; return its parts. It needs the scope ``admin``.

        :param limit: a decimal number as text
        :param fields: see :class:`BudgetFields`: ``unit``, ``period``, ``client``, ``label``, ``soft``, ``over`` …
        """
        return await self._run(put_budget(self._session, name, {"limit": limit, **fields}))

    async def remove_budget(self, name: str) -> Sequence[BudgetRow]:
        """Remove a budget, and return its parts. It needs the scope ``admin``."""
        return await self._run(delete_budget(self._session, name))
