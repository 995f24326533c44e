"""Runway's own SDK, unchanged, against Dovecote against the sandbox."""

import pytest

from tests.support.doors import RUNWAY_CLIENT, doors_on_sockets, run_client, runway_environment

SHORT = (
    RUNWAY_CLIENT
    + """
made = submit("a kite").wait_for_task_output()
try:
    submit("[fail] a kite").wait_for_task_output()
    failed = None
except runwayml.TaskFailedError as error:
    failed = [error.task_details.status, error.task_details.failure]
print(json.dumps({
    "made": [made.status, len(made.output)],
    "failed": failed,
    "mistake": refused(lambda: submit(7)),
    "unknown": refused(lambda: client.tasks.retrieve("17f20503-6c24-4c16-946b-35dbbce2af2f")),
    "key": refused(lambda: client.with_options(api_key="another-key-of-nobody").tasks.retrieve("x")),
}))
"""
)
LOST = RUNWAY_CLIENT + 'print(json.dumps([submit("a lost kite").id, submit("another kite").id]))'
LONG = (
    RUNWAY_CLIENT
    + """
IMAGE = "https://example.com/a.png"
image = client.image_to_video.create(model="gen4_turbo", prompt_image=IMAGE, prompt_text="waves", ratio="1280:720", duration=5)
frames = client.image_to_video.create(
    model="gen3a_turbo", prompt_image=[{"uri": IMAGE, "position": "first"}, {"uri": IMAGE, "position": "last"}],
    prompt_text="a tide", ratio="1280:768", duration=5)
picture = client.text_to_image.create(
    model="gen4_image", prompt_text="a dove", ratio="1024:1024", reference_images=[{"uri": IMAGE, "tag": "dove"}])
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
file = client.uploads.create_ephemeral(file=("a.png", PNG, "image/png"))
uploaded = client.image_to_video.create(model="gen4_turbo", prompt_image=file.uri, prompt_text="rain", ratio="1280:720", duration=5)
unnoticed = submit("[drop] a kite").wait_for_task_output()
stuck = submit("[stuck] a kite")
client.tasks.delete(stuck.id)
print(json.dumps({
    "all": [each.wait_for_task_output().status for each in (image, frames, picture, uploaded)],
    "unnoticed": unnoticed.status,
    "stuck": client.tasks.retrieve(stuck.id).status,
    "left": client.organization.retrieve().credit_balance,
}))
"""
)


async def test_tasks_succeed_and_fail_with_the_exceptions_of_the_sdk(sqlite_url: str) -> None:
    async with doors_on_sockets(sqlite_url) as stand:
        shown = await run_client(SHORT, **runway_environment(stand.url))
    assert shown == {
        "made": ["SUCCEEDED", 1],
        "failed": ["FAILED", "An unexpected error occurred."],
        "mistake": ["BadRequestError", 400],
        "unknown": ["NotFoundError", 404],
        "key": ["AuthenticationError", 401],
    }


async def test_create_whose_answer_is_lost_twice_makes_one_job(sqlite_url: str) -> None:
    async with doors_on_sockets(sqlite_url) as stand:
        stand.relay.lose = 2
        first, second = await run_client(LOST, **runway_environment(stand.url))
        assert first != second
        assert await stand.paid_before("a lost kite", last="another kite") == 1
        assert stand.relay.posts == 4


@pytest.mark.long
async def test_other_generations_and_cancels_and_lost_callbacks(sqlite_url: str) -> None:
    # Runway fetches uploads by https only, and never calls back.
    async with doors_on_sockets(sqlite_url, DOVECOTE_PUBLIC_URL="https://dovecote.example.com") as stand:
        shown = await run_client(LONG, **runway_environment(stand.url))
    assert shown == {"all": ["SUCCEEDED"] * 4, "unnoticed": "SUCCEEDED", "stuck": "CANCELLED", "left": 0}
