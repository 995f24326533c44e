"""The obvious version, kept for comparison: FastAPI, an SQLAlchemy session, one transaction for each request.

Written as one would write it in an afternoon, and given every setting that helps it: the same event loop and HTTP
parser, a pool that is large enough, SQLite with WAL, ``synchronous=FULL`` and ``BEGIN IMMEDIATE``.
"""

import datetime as dt
import json
import os
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import JSON, ForeignKey, LargeBinary, UniqueConstraint, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from standardwebhooks import Webhook

DATABASE_URL = "OBVIOUS_DATABASE_URL"
API_KEY = "OBVIOUS_API_KEY"
PUBLIC_URL = "OBVIOUS_PUBLIC_URL"
UPSTREAM = "OBVIOUS_UPSTREAM"
"""The upstream to which a background task submits the tasks after the answer; None: they are not submitted."""
STATES = {"0": "submitted", "1": "running", "2": "failed", "3": "succeeded"}
ENDED = {"failed", "succeeded"}
WEBHOOK_SECRET = "whsec_" + "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMA=="


class Base(DeclarativeBase):
    """All tables."""


class Task(Base):
    """A job, with the token that its callback bears."""

    __tablename__ = "tasks"
    __table_args__ = (UniqueConstraint("client", "idempotency_key"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    token: Mapped[str] = mapped_column(unique=True, default=lambda: secrets.token_urlsafe(32))
    client: Mapped[str]
    idempotency_key: Mapped[str | None]
    family: Mapped[str]
    operation: Mapped[str]
    input: Mapped[dict[str, Any]] = mapped_column(JSON)
    options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    labels: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    callback_url: Mapped[str | None]
    state: Mapped[str] = mapped_column(default="queued", index=True)
    external_id: Mapped[str | None]
    progress: Mapped[int | None]
    results: Mapped[list[Any]] = mapped_column(JSON, default=list)
    announced_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime] = mapped_column(default=lambda: dt.datetime.now(dt.UTC).replace(tzinfo=None))
    updated_at: Mapped[dt.datetime] = mapped_column(default=lambda: dt.datetime.now(dt.UTC).replace(tzinfo=None))


class Callback(Base):
    """A callback as the provider sent it."""

    __tablename__ = "callbacks"

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id"), index=True)
    headers: Mapped[dict[str, str]] = mapped_column(JSON)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[dt.datetime] = mapped_column(default=lambda: dt.datetime.now(dt.UTC).replace(tzinfo=None))


class Wish(BaseModel):
    """The body of a submit."""

    family: str
    operation: str
    input: dict[str, Any]
    options: dict[str, Any] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict, max_length=20)
    callback_url: str | None = None


class Shown(BaseModel):
    """A task as clients see it."""

    model_config = {"from_attributes": True}

    id: UUID
    family: str
    operation: str
    input: dict[str, Any]
    labels: dict[str, str]
    state: str
    progress: int | None
    results: list[Any]
    created_at: dt.datetime
    updated_at: dt.datetime


def open_engine(url: str) -> AsyncEngine:
    """Open a database as the obvious version does."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return create_async_engine(parsed.set(drivername="postgresql+asyncpg"), pool_size=20)
    # One connection: SQLite has one writer, and sessions that wait for the pool fare better than ones that find it locked.
    engine = create_async_engine(parsed.set(drivername="sqlite+aiosqlite"), pool_size=1, max_overflow=0)

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


app = FastAPI()
_sessions = async_sessionmaker(
    open_engine(os.environ.get(DATABASE_URL, "sqlite:///obvious.db")), expire_on_commit=False
)


async def _session() -> AsyncIterator[AsyncSession]:
    async with _sessions() as session:
        yield session


def _client(authorization: Annotated[str, Header()] = "") -> str:
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer" or not secrets.compare_digest(key, os.environ[API_KEY]):
        raise HTTPException(401)
    return "bench"


Session = Annotated[AsyncSession, Depends(_session)]
Client = Annotated[str, Depends(_client)]


@app.post("/callbacks/{token}")
async def callback(token: str, request: Request, session: Session, background: BackgroundTasks) -> dict[str, bool]:
    """Store a provider's callback."""
    task = await session.scalar(select(Task).where(Task.token == token))
    if task is None:
        raise HTTPException(404)
    body = await request.body()
    session.add(Callback(task_id=task.id, headers=dict(request.headers), body=body))
    news = await request.json()
    state = STATES.get(str(news.get("status")))
    if state is not None and task.state not in ENDED:
        task.state = state
        task.progress = 100 if state == "succeeded" else news.get("progress", task.progress)
        if news.get("video_url"):
            task.results = [{"kind": "video", "url": news["video_url"]}]
        task.updated_at = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    await session.commit()
    if task.state in ENDED and task.callback_url is not None:
        background.add_task(_announce, task.id)
    return {"received": True}


@app.post("/v1/tasks", status_code=202)
async def submit(  # noqa: PLR0917 - FastAPI passes by name
    wish: Wish,
    session: Session,
    client: Client,
    response: Response,
    background: BackgroundTasks,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Shown:
    """Accept a task, or find the one that the same key has made before."""
    known = select(Task).where(Task.client == client, Task.idempotency_key == idempotency_key)
    task = await session.scalar(known) if idempotency_key is not None else None
    if task is None:
        task = Task(client=client, idempotency_key=idempotency_key, **wish.model_dump())
        session.add(task)
        try:
            await session.commit()
        except IntegrityError:
            await session.rollback()
            task = (await session.scalars(known)).one()
        else:
            if UPSTREAM in os.environ:
                background.add_task(_hand_over, task.id)
    response.headers["Location"] = f"/v1/tasks/{task.id}"
    return Shown.model_validate(task)


_upstream = httpx.AsyncClient(base_url=os.environ.get(UPSTREAM, ""), timeout=30)


async def _hand_over(task_id: UUID) -> None:
    """Submit a task to the upstream and keep the id of its job."""
    async with _sessions() as session:
        task = await session.get_one(Task, task_id)
        task.state = "submitting"
        await session.commit()
    order = {"callback_url": f"{os.environ[PUBLIC_URL]}/callbacks/{task.token}", **task.input}
    answer = await _upstream.post("/runway/pro/generate", json=order, headers={"Authorization": "Bearer key"})
    answer.raise_for_status()
    async with _sessions() as session:
        task = await session.get_one(Task, task_id)
        if task.state == "submitting":
            task.state = "submitted"
        task.external_id = answer.json()["data"]["task_id"]
        await session.commit()


_receivers = httpx.AsyncClient(timeout=15)
_webhook = Webhook(WEBHOOK_SECRET)


async def _announce(task_id: UUID) -> None:
    """Post a signed message about the end of a task to its client, and write that it was received."""
    async with _sessions() as session:
        task = await session.get_one(Task, task_id)
    if task.announced_at is not None:
        return
    body = json.dumps({"type": f"task.{task.state}", "data": Shown.model_validate(task).model_dump(mode="json")})
    at, number = dt.datetime.now(dt.UTC), f"msg_{task.id}"
    headers = {
        "webhook-id": number,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": _webhook.sign(number, at, body),
        "content-type": "application/json",
    }
    answer = await _receivers.post(str(task.callback_url), content=body, headers=headers)
    answer.raise_for_status()
    async with _sessions() as session:
        task = await session.get_one(Task, task_id)
        task.announced_at = at.replace(tzinfo=None)
        await session.commit()


@app.get("/v1/tasks/{task_id}")
async def get(task_id: UUID, session: Session, client: Client) -> Shown:
    """Show a task."""
    task = await session.scalar(select(Task).where(Task.id == task_id, Task.client == client))
    if task is None:
        raise HTTPException(404)
    return Shown.model_validate(task)


@app.get("/healthz")
async def alive() -> dict[str, str]:
    """Return that the process is up."""
    return {"status": "ok"}
