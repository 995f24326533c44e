"""The MCP server. A tool call lasts a minute at most; a task lasts in Dovecote, whatever becomes of the call."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from dovecote import AsyncClient, ConfigurationError, DovecoteError, Problem, Task
from service import __version__
from service.web.auth.bearer import passed_a_proxy

INSTRUCTIONS: Final = """\
Dovecote makes videos, images, music and other media with paid providers. A task takes seconds to hours.
1. `families` lists what can be made; with `family` and `operation` it returns the JSON Schema of the input.
2. `submit` buys one task and returns its id at once. Choose a new `request_id` for each thing that you want to buy. If a call to
   `submit` fails or times out, call it again with the SAME `request_id` and the same arguments: nothing is bought twice.
3. `wait` with the id returns the task when it has ended, or as it is after `seconds`. Call it again until `ended` is true.
4. `fetch_results` returns links to the results of a task that succeeded.
A task goes on when a call times out or this conversation ends. `list` finds it again."""
MAX_WAIT: Final = 50
"""Seconds of one call of ``wait``: MCP clients commonly end a call after 60."""
_TICK: Final = 5
"""Seconds between two notifications of progress. A client that is told of progress waits longer."""
_MAX_KEY: Final = 200

_RETRY_FOR: Final = 20.0
"""Seconds for which a call is repeated while Dovecote is away."""

State = Literal[
    "queued",
    "submitting",
    "unconfirmed",
    "submitted",
    "running",
    "awaiting_input",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
]
TaskId = Annotated[str, Field(description="The id of a task.", min_length=1, max_length=100)]
Document = dict[str, Any]

_READS: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_BUYS: Final = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
_CANCELS: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True
)
_SAVES: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)


class Tools:
    """The tools of one Dovecote."""

    def __init__(self, url: str, *, shared_key: bool, output: Path | None) -> None:
        """Keep the settings.

        :param shared_key: whether a call without an API key of its own has that of this process, unless it passed a proxy
        :param output: the folder for results; None where agents get links only
        """
        self._url, self._shared_key, self._output = url, shared_key, output

    async def families(
        self,
        ctx: Context,
        family: Annotated[str | None, Field(description="Only this family, such as runway.")] = None,
        operation: Annotated[str | None, Field(description="Only this operation of the family.")] = None,
    ) -> Document:
        """List what can be made. With `family` and `operation`, return the JSON Schema of the input as well."""
        async with self._client(ctx) as client:
            known = await client.families()
        chosen = [each for each in known if family in (None, each.name)]
        if not chosen:
            raise ToolError(f"There is no family {family!r:.80}. Families: {', '.join(each.name for each in known)}")
        if operation is not None:
            if family is None:
                raise ToolError("operation is given without family: name the family as well")
            one = chosen[0].operation(operation)
            if one is None:
                names = ", ".join(each.name for each in chosen[0].operations)
                raise ToolError(f"{family} has no operation {operation!r:.80}. Operations: {names}")
            return {"family": family, **one.document}
        return {
            "families": [
                {
                    "family": each.name,
                    "title": each.title,
                    "operations": [
                        {
                            "operation": one.name,
                            "title": one.title,
                            "produces": one.produces,
                            "available": bool(one.upstreams),
                        }
                        for one in each.operations
                    ],
                }
                for each in chosen
            ]
        }

    async def submit(  # noqa: PLR0917 - the SDK passes the fields of a call by name
        self,
        ctx: Context,
        family: Annotated[str, Field(description="A family of `families`.")],
        operation: Annotated[str, Field(description="An operation of the family.")],
        input: Annotated[Document, Field(description="The input, by the operation's JSON Schema.")],  # noqa: A002 - the API's word
        request_id: Annotated[
            str,
            Field(
                description="An id of your own for this purchase, such as a UUID. Repeat it only to repeat a call that failed.",
                min_length=8,
                max_length=_MAX_KEY,
            ),
        ],
        labels: Annotated[dict[str, str] | None, Field(description="Names to find the task by.")] = None,
        parent_id: Annotated[str | None, Field(description="The task that this one continues.")] = None,
        max_cost: Annotated[
            dict[str, str] | None,
            Field(description='The most that it may cost, such as {"amount": "0.50", "unit": "USD"}.'),
        ] = None,
    ) -> Document:
        """Buy one task, and return it at once. The same `request_id` with the same arguments returns the same task."""
        async with self._client(ctx) as client:
            task = await client.submit(
                family,
                operation,
                input=input,
                idempotency_key=f"mcp:{request_id}",
                labels=labels,
                parent_id=parent_id,
                max_cost=max_cost,
            )
        return _shown(task)

    async def wait(
        self,
        ctx: Context,
        task_id: TaskId,
        seconds: Annotated[int, Field(description="The longest time to wait.", ge=1, le=MAX_WAIT)] = 45,
    ) -> Document:
        """Wait for the end of a task, and return the task. Where `ended` is false, call this again."""
        async with self._client(ctx) as client:
            passed, task = 0, await client.get(task_id)
            with contextlib.suppress(TimeoutError):  # Dovecote may be away for longer: the agent asks again
                async with asyncio.timeout(seconds + _TICK):
                    while not task.ended and passed < seconds:
                        await ctx.report_progress(passed, seconds, task.explanation)
                        tick = min(_TICK, seconds - passed)
                        task = await client.get(task_id, wait=tick)
                        passed += tick
        return _shown(task)

    async def get(self, ctx: Context, task_id: TaskId) -> Document:
        """Return a task as it is now."""
        async with self._client(ctx) as client:
            return _shown(await client.get(task_id))

    async def list_tasks(  # noqa: PLR0917 - as above
        self,
        ctx: Context,
        state: Annotated[list[State] | None, Field(description="Only tasks in these states.")] = None,
        family: Annotated[str | None, Field(description="Only tasks of this family.")] = None,
        labels: Annotated[dict[str, str] | None, Field(description="Only tasks with all of these labels.")] = None,
        limit: Annotated[int, Field(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, Field(description="`next` of the page before.")] = None,
    ) -> Document:
        """List tasks, newest first."""
        async with self._client(ctx) as client:
            page = await client.page(limit=limit, cursor=cursor, state=state, family=family, labels=labels)
        return {"tasks": [_shown(task) for task in page.items], "next": page.next}

    async def cancel(self, ctx: Context, task_id: TaskId) -> Document:
        """Cancel a task. It may end a little later, may have ended already, and may still be charged by the provider."""
        async with self._client(ctx) as client:
            return _shown(await client.cancel(task_id))

    async def fetch_results(self, ctx: Context, task_id: TaskId) -> Document:
        """Return the results of a task: a link or a text for each, and the saved files where this server saves files."""
        async with self._client(ctx) as client:
            task = await client.results.settled(task_id, wait=MAX_WAIT / 2)
            if not task.results:
                raise ToolError(f"The task has no results: it is {task.state}. {task.explanation}")
            results = []
            for number, result in enumerate(task.results):
                shown: Document = {
                    "kind": result.kind,
                    "role": result.role,
                    "text": result.text,
                    "media_type": result.media_type,
                }
                if result.kept == "kept":
                    link = await client.results.link(task, number)
                    shown |= {"url": link.url, "url_expires_at": link.expires_at.isoformat()}
                elif result.url is not None:
                    expires = None if result.expires_at is None else result.expires_at.isoformat()
                    shown |= {"url": result.url, "url_expires_at": expires}
                results.append({name: value for name, value in shown.items() if value is not None})
            answer: Document = {"task_id": task.id, "state": task.state, "results": results}
            if self._output is not None:
                answer |= await _saved(client, task, self._output / task.id)
        return answer

    @contextlib.asynccontextmanager
    async def _client(self, ctx: Context) -> AsyncIterator[AsyncClient]:
        """Open a client with the API key of the caller; every error of it becomes an answer that the agent can read."""
        key = _bearer(ctx.headers)
        shares = self._shared_key and not passed_a_proxy(ctx.headers or ())
        try:
            async with AsyncClient(self._url, key or (None if shares else ""), retry_for=_RETRY_FOR) as client:
                yield client
        except Problem as problem:
            mistakes = "".join(f"\n{mistake.path}: {mistake.message}" for mistake in problem.errors)
            raise ToolError(f"{problem}{mistakes}") from problem
        except (ConfigurationError, DovecoteError, ValueError) as error:  # ValueError: what is no id
            raise ToolError(str(error)) from error


def build(url: str, *, shared_key: bool, output: Path | None = None) -> MCPServer:
    """Return the MCP server of a Dovecote: see :class:`Tools`."""
    server: MCPServer = MCPServer(
        "dovecote", title="Dovecote", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING"
    )
    tools = Tools(url, shared_key=shared_key, output=output)
    for function, name, annotations in (
        (tools.families, "families", _READS),
        (tools.submit, "submit", _BUYS),
        (tools.wait, "wait", _READS),
        (tools.get, "get", _READS),
        (tools.list_tasks, "list", _READS),
        (tools.fetch_results, "fetch_results", _SAVES),
        (tools.cancel, "cancel", _CANCELS),
    ):
        server.add_tool(function, name=name, annotations=annotations)
    return server


async def _saved(client: AsyncClient, task: Task, folder: Path) -> Document:
    """Save the results of a task. Where that fails, the agent still has the links."""
    try:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        return {"files": [str(path.resolve()) for path in await client.results.save(task, folder)]}
    except (DovecoteError, OSError) as error:
        return {"not_saved": str(error)}


def _bearer(headers: Mapping[str, str] | None) -> str | None:
    """Return the API key that came with a request; None where none came, and by standard input and output."""
    kind, _, key = (headers or {}).get("authorization", "").partition(" ")
    return key.strip() or None if kind.lower() == "bearer" else None


def _shown(task: Task) -> Document:
    """Return what an agent needs of a task: few words, for its context is small."""
    shown: Document = {
        "id": task.id,
        "family": task.family,
        "operation": task.operation,
        "state": task.state,
        "ended": task.ended,
        "explanation": task.explanation,
        "progress": task.progress,
        "labels": dict(task.labels),
        "failure": None if task.failure is None else {"code": task.failure.code, "message": task.failure.message},
        "next_actions": [{"id": action.id, "label": action.label} for action in task.next_actions],
        "awaits": task.awaits,
        "results": len(task.results),
        "cost": task.cost,
        "cost_unit": task.cost_unit,
    }
    return {name: value for name, value in shown.items() if value is not None}
