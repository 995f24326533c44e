"""The receiver accepts only valid signatures, counts attempts, and answers as configured."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from standardwebhooks.webhooks import Webhook

from service.sandbox import Received, Receiver, running

SECRET = "whsec_" + "ZG92ZWNvdGUtdGVzdC1zZWNyZXQ="
BODY = orjson.dumps(
    {"type": "task.succeeded", "timestamp": "2026-01-01T00:00:00Z", "data": {"id": "t1", "state": "succeeded"}}
)


def signed(message: str, body: bytes = BODY, moment: datetime | None = None) -> dict[str, str]:
    at = moment or datetime.now(UTC)
    return {
        "webhook-id": message,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(message, at, body.decode()),
    }


async def post(receiver: Receiver, headers: Mapping[str, str], body: bytes = BODY) -> int:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver.app), base_url="http://me.test") as client:
        return (await client.post("/hooks/dovecote", content=body, headers=dict(headers))).status_code


async def test_a_signed_message_is_verified_and_kept_once() -> None:
    receiver = Receiver(SECRET)
    assert [await post(receiver, signed(message)) for message in ("m1", "m1", "m2")] == [204, 204, 204]
    assert receiver.received == [
        Received("m1", "task.succeeded", "t1", "succeeded", verified=True, attempts=2),
        Received("m2", "task.succeeded", "t1", "succeeded", verified=True, attempts=1),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "m2"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "nonsense"},
        {"webhook-signature": "v1,="},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "nan"},
        lambda: signed("m1", moment=datetime.now(UTC) - timedelta(minutes=6)),
        lambda: signed("m1", body=BODY + b" "),
    ],
    ids=["id", "signature", "no signature", "no base64", "words as time", "no number", "too old", "other body"],
)
async def test_a_forged_message_is_refused_and_kept_apart(
    change: dict[str, str] | Callable[[], dict[str, str]],
) -> None:
    receiver = Receiver(SECRET)
    assert await post(receiver, signed("m1")) == 204
    assert await post(receiver, signed("m1") | (change() if callable(change) else change)) == 401
    assert [(message.verified, message.attempts) for message in receiver.received] == [(True, 1), (False, 1)]


async def test_without_headers_or_without_json_it_still_answers() -> None:
    receiver = Receiver(SECRET)
    assert [await post(receiver, {}, body) for body in (b"", b"[]", b"\xff", b'{"data":3}')] == [401] * 4
    assert receiver.received == [Received("", None, None, None, verified=False, attempts=4)]


async def test_answers_are_given_to_the_attempts_of_each_message() -> None:
    receiver = Receiver(SECRET, answers=[500, 429, 200])
    first = [await post(receiver, signed("m1")) for _ in range(4)]
    assert first == [500, 429, 200, 200]
    assert await post(receiver, signed("m2")) == 500


async def test_without_a_secret_nothing_counts_as_verified() -> None:
    receiver = Receiver()
    assert await post(receiver, signed("m1")) == 204
    assert [message.verified for message in receiver.received] == [False]


async def test_receiver_lists_its_messages() -> None:
    receiver: Any = Receiver(SECRET)
    async with running(receiver) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
        assert (await client.post("/", content=BODY, headers=signed("m1"))).status_code == 204
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/receiver/received")).json() == [
            {
                "id": "m1",
                "type": "task.succeeded",
                "task_id": "t1",
                "state": "succeeded",
                "verified": True,
                "attempts": 1,
            }
        ]
