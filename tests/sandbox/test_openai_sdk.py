"""OpenAI's own SDK, unchanged, completes jobs against the sandbox. This proves the sandbox's protocol."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from service.sandbox import Sandbox
from service.sandbox.files import FILES
from service.sandbox.server import running
from tests.support.waiting import LIMIT

if TYPE_CHECKING:
    import openai  # slow to import: only the tests do

DEPRECATED = pytest.mark.filterwarnings("ignore::DeprecationWarning")
"""OpenAI's end of videos and of its translation model is announced, and the SDK warns of it."""
PNG = FILES["png"][1]


@pytest.fixture
async def client() -> "AsyncIterator[openai.AsyncOpenAI]":
    """Return a client of a sandbox over real sockets."""
    import openai

    async with (
        running(Sandbox(seconds=0.1)) as url,
        openai.AsyncOpenAI(api_key="sandbox-key", base_url=f"{url}/openai/v1", max_retries=0) as sdk,
    ):
        yield sdk


async def test_image_is_generated_and_edited(client: "openai.AsyncOpenAI") -> None:
    made = await client.images.generate(model="gpt-image-2", prompt="a dove", size="1024x1024")
    assert made.data is not None
    assert base64.b64decode(made.data[0].b64_json or "").startswith(PNG[:8])
    image = ("dove.png", PNG, "image/png")
    for images in (image, [image, image]):
        edited = await client.images.edit(model="gpt-image-2", prompt="a red ribbon", image=images)
        assert edited.data is not None
        assert base64.b64decode(edited.data[0].b64_json or "").startswith(PNG[:8])


async def test_chat_is_answered(client: "openai.AsyncOpenAI") -> None:
    completion = await client.chat.completions.create(
        model="gpt-6-luna", messages=[{"role": "user", "content": "Name three colours."}]
    )
    assert completion.choices[0].message.content == "Red, green, blue."
    assert completion.choices[0].finish_reason == "stop"


async def test_response_in_the_background_completes(client: "openai.AsyncOpenAI") -> None:
    response = await client.responses.create(model="gpt-6-luna", input="Name three colours.", background=True)
    assert response.status == "queued"
    async with asyncio.timeout(LIMIT):
        while response.status in {"queued", "in_progress"}:
            response = await client.responses.retrieve(response.id)
    assert (response.status, response.output_text) == ("completed", "Red, green, blue.")
    assert (await client.responses.cancel(response.id)).status == "completed", "a cancel that comes too late"


async def test_response_is_cancelled(client: "openai.AsyncOpenAI") -> None:
    response = await client.responses.create(model="gpt-6-luna", input="[seconds=60] colours", background=True)
    assert (await client.responses.cancel(response.id)).status == "cancelled"


@DEPRECATED
async def test_video_completes_and_is_downloaded(client: "openai.AsyncOpenAI") -> None:
    video = await client.videos.create_and_poll(model="sora-2", prompt="a dove", seconds="8", poll_interval_ms=10)
    assert (video.status, video.progress, video.seconds) == ("completed", 100, "8")
    content = await client.videos.download_content(video.id)
    assert await content.aread() == FILES["mp4"][1]
    remix = await client.videos.remix(video.id, prompt="at night")
    assert (remix.remixed_from_video_id, remix.status) == (video.id, "queued")


@DEPRECATED
async def test_speech_and_transcript_and_vectors_and_models(client: "openai.AsyncOpenAI") -> None:
    speech = await client.audio.speech.create(model="gpt-4o-mini-tts", voice="marin", input="Good morning.")
    assert speech.content == FILES["mp3"][1]
    recording = ("talk.mp3", speech.content, "audio/mpeg")
    transcript = await client.audio.transcriptions.create(model="gpt-transcribe", file=recording)
    translation = await client.audio.translations.create(model="whisper-1", file=recording)
    assert transcript.text == translation.text == "Good morning from the dovecote."
    vectors = await client.embeddings.create(model="text-embedding-3-small", input="dove", encoding_format="float")
    assert vectors.data[0].embedding == [0.5, -0.25, 1.5]
    assert "gpt-6-luna" in [model.id async for model in client.models.list()]


async def test_refusals_are_the_errors_of_the_sdk(client: "openai.AsyncOpenAI") -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as refused:
        await client.images.generate(model="gpt-image-2", prompt="[refuse] [moderate] a dove")
    assert refused.value.code == "moderation_blocked"
    with pytest.raises(openai.RateLimitError) as spent:
        await client.images.generate(model="gpt-image-2", prompt="[nocredit] a dove")
    assert spent.value.code == "insufficient_quota"
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="sk-wrong").models.list()
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve("resp_unknown")
