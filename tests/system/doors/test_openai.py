"""OpenAI's own SDK, unchanged, against Dovecote against the sandbox."""

import pytest

from tests.support.doors import KEY, doors_on_sockets, run_client

BEGIN = """
import base64
import json
import time
import openai

pause = time.sleep
time.sleep = lambda seconds: pause(min(seconds, 0.05))
client = openai.OpenAI()
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")


def refused(function):
    try:
        function()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code]

"""
SHORT = (
    BEGIN
    + """
made = client.images.generate(model="gpt-image-2", prompt="a dove", size="1024x1024")
chat = client.chat.completions.create(model="gpt-6-luna", messages=[{"role": "user", "content": "Name three colours."}])
print(json.dumps({
    "image": base64.b64decode(made.data[0].b64_json)[:4].hex(),
    "chat": [chat.choices[0].message.content, chat.choices[0].finish_reason],
    "moderated": refused(lambda: client.images.generate(model="gpt-image-2", prompt="[refuse] [moderate] a dove")),
    "spent": refused(lambda: client.images.generate(model="gpt-image-2", prompt="[nocredit] a dove")),
    "mistake": refused(lambda: client.images.generate(model="gpt-image-2", prompt=5)),
    "unknown": refused(lambda: client.videos.retrieve("video_1")),
    "key": refused(lambda: client.with_options(api_key="sk-another-key").models.list()),
}))
"""
)
LOST = (
    BEGIN
    + """
first = client.images.generate(model="gpt-image-2", prompt="a lost dove")
second = client.images.generate(model="gpt-image-2", prompt="another dove")
print(json.dumps([len(first.data), len(second.data)]))
"""
)
LOST_VIDEO = (
    BEGIN
    + """
first = client.videos.create(model="sora-2", prompt="a lost dove", seconds="8", input_reference=("a.png", PNG, "image/png"))
second = client.videos.create(model="sora-2", prompt="another dove", seconds="8")
print(json.dumps([first.id, second.id]))
"""
)
LONG = (
    BEGIN
    + """
video = client.videos.create_and_poll(model="sora-2", prompt="a dove", seconds="8", size="1280x720", poll_interval_ms=20)
content = client.videos.download_content(video.id).read()
remix = client.videos.remix(video.id, prompt="at night")
failed = client.videos.create_and_poll(model="sora-2", prompt="[fail] a dove", seconds="8", poll_interval_ms=20)
listed = [each.id for each in client.videos.list(limit=2)]
oldest = next(iter(client.videos.list(limit=1, order="asc"))).id
edited = client.images.edit(model="gpt-image-2", prompt="a ribbon", image=[("a.png", PNG), ("b.png", PNG)], mask=("m.png", PNG))
events = [each.type for each in client.images.generate(model="gpt-image-2", prompt="a kite", stream=True)]
pieces = client.chat.completions.create(
    model="gpt-6-luna", stream=True, messages=[{"role": "user", "content": "Name three colours."}])
said = "".join(each.choices[0].delta.content or "" for each in pieces)
response = client.responses.create(model="gpt-6-luna", input="Name three colours.", background=True)
first_status = response.status
while response.status in {"queued", "in_progress"}:
    pause(0.05)
    response = client.responses.retrieve(response.id)
held = client.responses.create(model="gpt-6-luna", input=[{"role": "user", "content": "Name three colours."}], instructions="Be brief.")
streamed = [each.type for each in client.responses.create(model="gpt-6-luna", input="Name three colours.", stream=True)]
slow = client.responses.create(model="gpt-6-luna", input="[seconds=60] colours", background=True)
speech = client.audio.speech.create(model="gpt-4o-mini-tts", voice="marin", input="Good morning.").read()
talk = ("talk.mp3", speech, "audio/mpeg")
text = client.audio.transcriptions.create(model="gpt-transcribe", file=talk).text
translated = client.audio.translations.create(model="whisper-1", file=talk, prompt="a talk", temperature=0.2)
plain = client.audio.translations.create(model="whisper-1", file=talk, response_format="srt")
model = client.models.retrieve("gpt-6-luna")
print(json.dumps({
    "video": [video.status, video.progress, video.seconds, video.size, len(content) > 0],
    "remix": [remix.status, remix.remixed_from_video_id == video.id],
    "failed": [failed.status, failed.error.message],
    "listed": [len(listed), len(set(listed)), oldest == video.id],
    "edited": len(edited.data),
    "events": events,
    "said": said,
    "response": [first_status, response.status, response.output_text, client.responses.cancel(response.id).status],
    "held": [held.status, held.output_text],
    "streamed": streamed[-1],
    "cancelled": client.responses.cancel(slow.id).status,
    "text": text,
    "translated": [translated.text, plain.strip()],
    "model": [model.id, model.object, model.owned_by, client.models.retrieve("openai").owned_by],
    "no model": refused(lambda: client.models.retrieve("of/nobody")),
    "models": "gpt-6-luna" in [each.id for each in client.models.list()],
    "deleted": client.videos.delete(remix.id).deleted,
    "tools": refused(lambda: client.chat.completions.create(
        model="gpt-6-luna", messages=[{"role": "user", "content": "x"}],
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])),
}))
"""
)


def environment(url: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"{url}/openai/v1", "OPENAI_API_KEY": KEY}


async def test_images_and_chats_succeed_and_fail_with_the_exceptions_of_the_sdk(sqlite_url: str) -> None:
    async with doors_on_sockets(sqlite_url) as stand:
        shown = await run_client(SHORT, **environment(stand.url))
    assert shown == {
        "image": "89504e47",
        "chat": ["Red, green, blue.", "stop"],
        "moderated": ["BadRequestError", 400, "moderation_blocked"],
        "spent": ["RateLimitError", 429, "insufficient_quota"],
        "mistake": ["BadRequestError", 400, "invalid_request"],
        "unknown": ["NotFoundError", 404, "not_found"],
        "key": ["AuthenticationError", 401, "invalid_api_key"],
    }


@pytest.mark.parametrize(
    "program",
    [pytest.param(LOST, id="a held image"), pytest.param(LOST_VIDEO, id="a video with a file", marks=pytest.mark.long)],
)
async def test_create_whose_answer_is_lost_twice_makes_one_job(sqlite_url: str, program: str) -> None:
    async with doors_on_sockets(sqlite_url) as stand:
        stand.relay.lose = 2
        first, second = await run_client(program, **environment(stand.url))
        assert first == 1 or first != second
        assert await stand.paid_before("a lost dove", last="another dove") == 1


@pytest.mark.long
async def test_every_call_of_the_sdk_works(sqlite_url: str) -> None:
    async with doors_on_sockets(sqlite_url) as stand:
        shown = await run_client(LONG, **environment(stand.url))
    assert shown.pop("failed")[0] == "failed"
    assert shown == {
        "video": ["completed", 100, "8", "1280x720", True],
        "remix": ["queued", True],
        "listed": [3, 3, True],
        "edited": 1,
        "events": ["image_generation.completed"],
        "said": "Red, green, blue.",
        "response": ["queued", "completed", "Red, green, blue.", "completed"],
        "held": ["completed", "Red, green, blue."],
        "streamed": "response.completed",
        "cancelled": "cancelled",
        "text": "Good morning from the dovecote.",
        "translated": ["Good morning from the dovecote.", "Good morning from the dovecote."],
        "model": ["gpt-6-luna", "model", "openai_like", "dovecote"],
        "no model": ["NotFoundError", 404, "model_not_found"],
        "models": True,
        "deleted": True,
        "tools": ["BadRequestError", 400, "unsupported"],
    }
