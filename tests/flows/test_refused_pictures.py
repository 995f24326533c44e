"""An answer that is the result, and holds no picture: it was paid for, so it fails the task and is not bought again."""

import json

import httpx

from service.domain.task import State
from tests.support.world import World

UNSAFE = {"created": "2026-11-20", "data": [{"url": None, "is_image_safe": False, "prompt": "a cat"}]}


async def test_answer_with_refused_pictures_only_fails_the_task_and_is_not_bought_again(sqlite_url: str) -> None:
    bought: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bought.extend([request] if request.method == "POST" else [])
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(UNSAFE).encode()))

    upstream = {"DIALECTS": "ideogram/official", "BASE_URL": "http://ideogram.test"}
    settings = {f"DOVECOTE_UPSTREAMS__ELKAPI__{name}": value for name, value in upstream.items()}
    async with World.opened(sqlite_url, **settings) as world:
        world.edge.hosts["ideogram.test"] = httpx.MockTransport(answer)
        words = {"prompt": "a cat", "model": "V_3"}
        task = await world.submit(family="ideogram", operation="text_to_image", input=words)
        await world.until(60)
        ended = await world.task(task)
    assert (ended.state, ended.results) == (State.FAILED, ())
    assert ended.failure is not None
    assert ended.failure.code == "content_policy"
    assert len(bought) == 1
