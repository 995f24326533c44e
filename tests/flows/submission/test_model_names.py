"""Names of models by upstream: a task is sent with the upstream's own name, and keeps the client's."""

import json
from typing import Any

import httpx
import pytest

from service.domain.task import State
from service.settings.load import SettingsError
from tests.support.world import World, settings_for

IMAGE = {"data": [{"b64_json": "iVBORw0KGgo="}]}
DONE = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
SETTINGS = {
    "DOVECOTE_UPSTREAMS__ELKAPI__BASE_URL": "http://gateway.test",
    "OPENAI_API_KEY": "sk-official-key",
    "DOVECOTE_UPSTREAMS__OPENAI__BASE_URL": "http://openai.test",
    "DOVECOTE_UPSTREAMS__OPENAI__MODEL_NAMES": "gpt-image-1=gpt-image-2, dall-e-3=gpt-image-1.5",
}


@pytest.mark.parametrize("place", ["input", "options"])
async def test_task_fails_over_with_the_name_of_the_next_upstream(database_url: str, place: str) -> None:
    sent: dict[str, list[Any]] = {"gateway.test": [], "openai.test": []}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            sent[request.url.host].append(json.loads(request.content))
        refused = request.url.host == "gateway.test"
        body = {"error": {"message": "no", "code": ""}} if refused else IMAGE
        return httpx.Response(401 if refused else 200, stream=httpx.ByteStream(json.dumps(body).encode()))

    async with World.opened(database_url, **SETTINGS) as world:
        world.edge.hosts |= dict.fromkeys(sent, httpx.MockTransport(answer))
        given: dict[str, Any] = {"input": {"prompt": "a dove"}, "options": {}}
        given[place]["model"] = "gpt-image-1"
        task = await world.submit(family="openai", operation="text_to_image", callback_url=None, **given)
        await world.work()
        after = await world.task(task)
    assert (after.state, after.upstream, after.model) == (State.SUCCEEDED, "openai", "gpt-image-1")
    assert [[body["model"] for body in each] for each in sent.values()] == [["gpt-image-1"], ["gpt-image-2"]]


async def test_input_is_checked_by_the_name_of_each_upstream(database_url: str) -> None:
    """gpt-image-1 makes three shapes only, and gpt-image-2 makes any."""
    async with World.opened(database_url, **SETTINGS) as world:
        given = {"prompt": "a dove", "model": "gpt-image-1", "aspect_ratio": "16:9"}
        task = await world.submit(family="openai", operation="text_to_image", callback_url=None, input=given)
    assert task.route == ("openai",)
    assert list(task.skipped_upstreams) == ["elkapi"]


@pytest.mark.parametrize("names", ["gpt-image-1", "=gpt-image-2", "gpt-image-1=", "a=b,a=c"])
def test_names_that_are_no_pairs_are_refused(names: str) -> None:
    with pytest.raises(SettingsError, match="model_names"):
        settings_for("sqlite:///never-opened.db", **{**SETTINGS, "DOVECOTE_UPSTREAMS__OPENAI__MODEL_NAMES": names})
