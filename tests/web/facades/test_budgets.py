"""A submit that no budget has room for: every door refuses it in the form of its API, and nothing is bought."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import ALICE
from tests.support.doors import DOORS, UPSTREAMS, upstreams
from tests.support.world import World

KEY = {"Authorization": f"Bearer {ALICE}"}
PRICE = """
[[price]]
id = "{name}"
upstream = "{name}"
unit = "usd"
rate = "75"
checked = 2026-11-27
"""
MODEL_INPUT = {"input": {"prompt": "a dove"}}
SUBMITS: list[tuple[str, dict[str, Any], int]] = [
    ("/runwayml/v1/text_to_video", {"model": "gen4.5", "promptText": "a", "ratio": "1280:720", "duration": 5}, 402),
    ("/runway/pro/generate", {"prompt": "a", "model": "gen4.5", "options": {"seconds": 5}}, 402),
    ("/openai/v1/videos", {"model": "sora-2", "prompt": "a"}, 429),
    ("/openai/v1/images/generations", {"model": "gpt-image-2", "prompt": "a"}, 429),
    ("/openai/v1/chat/completions", {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "a"}]}, 429),
    ("/openai/v1/responses", {"model": "gpt-6-luna", "input": "a", "background": True}, 429),
    ("/openai/v1/audio/speech", {"model": "gpt-4o-mini-tts", "input": "a", "voice": "alloy"}, 429),
    ("/replicate/v1/models/acme/doves/predictions", MODEL_INPUT, 402),
    ("/fal/fal-ai/flux/dev", {"prompt": "a"}, 403),
    ("/fal/fal-run/fal-ai/flux/dev", {"prompt": "a"}, 403),
    ("/v1/task/submit", {"model": "acme/doves", "input": {"prompt": "a"}}, 402),
    ("/v1/video/generations", {"model": "sora-2", "prompt": "a"}, 402),
    ("/mj/submit/imagine", {"prompt": "a"}, 200),
    ("/suno/submit/music", {"gpt_description_prompt": "a"}, 402),
]


@pytest.fixture
async def world(sqlite_url: str, tmp_path: Path) -> AsyncIterator[World]:
    prices = tmp_path / "prices.toml"
    rules = [PRICE.format(name=name) for name in ("elkapi", *UPSTREAMS)]
    prices.write_text("schema = 1\n" + "".join(rules), encoding="utf-8")
    money = {
        "DOVECOTE_MONEY__PRICES_FILE": str(prices),
        "DOVECOTE_MONEY__BUDGETS": "month client=alice limit=5 period=month",
    }
    switches = {f"DOVECOTE_DOORS__{name}": "true" for name in DOORS}
    keys = {"DOVECOTE_API_KEYS": f"alice={ALICE}"}
    behind = upstreams("http://sandbox.test")
    async with World.opened(sqlite_url, **money, **switches, **keys, **behind) as opened:
        yield opened


async def test_submit_beyond_the_budget_is_refused_in_the_form_of_the_api(world: World) -> None:
    for path, body, status in SUBMITS:
        answer = await world.client.post(path, json=body, headers=KEY)
        assert (answer.status_code, answer.headers.get("x-should-retry")) == (status, "false"), (path, answer.text)
        assert "month" in answer.text, (path, answer.text)
    assert (await world.client.get("/v1/tasks", headers=KEY)).json()["tasks"] == []
