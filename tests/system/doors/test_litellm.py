"""LiteLLM, unchanged, against Dovecote against the sandbox. It brings 40 packages, so it runs from an environment of its own.

``LITELLM_PYTHON`` names the interpreter of an environment with LiteLLM, as ``.ci/run`` makes it from ``requirements-litellm.txt``. Its requests are also replayed by
``tests/web/facades/test_recorded.py``.
"""

import os

import pytest

from tests.support.doors import KEY, doors_on_sockets, run_client

PYTHON = os.environ.get("LITELLM_PYTHON", "")
PROGRAM = """
import json
import os
import time
import litellm

OPENAI = {"api_base": os.environ["BASE"] + "/openai/v1", "api_key": os.environ["KEY"]}
RUNWAY = {"api_base": os.environ["BASE"] + "/runwayml/v1", "api_key": os.environ["KEY"]}


def ended(video, host):
    status = litellm.video_status(video_id=video.id, **host)
    while status.status not in {"completed", "failed"}:
        time.sleep(0.05)
        status = litellm.video_status(video_id=video.id, **host)
    return status.status


video = litellm.video_generation(prompt="waves", model="openai/sora-2", seconds="4", size="720x1280", **OPENAI)
runway = litellm.video_generation(prompt="waves", model="runwayml/gen4.5", seconds="5", size="1280x720", **RUNWAY)
failed = litellm.video_generation(prompt="[fail] waves", model="runwayml/gen4.5", seconds="5", size="1280x720", **RUNWAY)
image = litellm.image_generation(prompt="a dove", model="openai/gpt-image-2", **OPENAI)
try:
    litellm.image_generation(prompt="[refuse] [moderate] a dove", model="openai/gpt-image-2", **OPENAI)
    refused = None
except litellm.BadRequestError as error:
    refused = error.status_code
print("\\n" + json.dumps({
    "video": ended(video, OPENAI),
    "content": len(litellm.video_content(video_id=video.id, **OPENAI)) > 0,
    "runway": ended(runway, RUNWAY),
    "failed": ended(failed, RUNWAY),
    "image": len(image.data),
    "refused": refused,
}))
"""


@pytest.mark.long
@pytest.mark.skipif(not PYTHON, reason="LITELLM_PYTHON names no environment with LiteLLM")
async def test_video_and_image_calls_of_litellm_work(sqlite_url: str) -> None:
    async with doors_on_sockets(sqlite_url) as stand:
        shown = await run_client(PROGRAM, python=PYTHON, BASE=stand.url, KEY=KEY, LITELLM_LOCAL_MODEL_COST_MAP="True")
    assert shown == {
        "video": "completed",
        "content": True,
        "runway": "completed",
        "failed": "failed",
        "image": 1,
        "refused": 400,
    }
