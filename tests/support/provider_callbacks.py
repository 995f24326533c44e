"""A submitted task, and the callback that its provider sends."""

import orjson

from service.domain.task import Task
from tests.support.world import World


async def submitted_task(world: World, prompt: str = "[drop] a dove") -> tuple[Task, str]:
    """Submit a task to the sandbox. Return it with the path of its callback URL."""
    task = await world.submit(prompt)
    await world.work()
    [submission] = await world.submissions(task)
    return await world.task(task), f"/callbacks/{world.context.tokens.make(submission.id)}"


def callback_body(task: Task, status: str = "3") -> bytes:
    """Return the body of the gateway's callback about a task."""
    result = {"video_url": "https://cdn.example/dove.mp4"} if status == "3" else {}
    return orjson.dumps({"task_id": task.external_id, "status": status, **result})
