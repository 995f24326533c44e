"""A difference between what was made and what was billed is shown on the task, in its event and on its page."""

from tests.support.kept_results import finished, keeping
from tests.support.pages import visitor


async def test_short_film_is_shown_once_its_file_is_kept(database_url: str) -> None:
    async with keeping(database_url) as world:
        task = await finished(world, "a dove")
        shown = (await world.client.get(f"/v1/tasks/{task.id}")).json()
        kept = [each for each in shown["results"] if each.get("duration")]
        assert kept, shown["results"]
        [difference] = [each for each in shown["billing_differences"] if each["kind"] == "seconds"]
        assert (difference["billed"], difference["basis"]) == (str(shown["input"]["duration"]), "request")
        events = [event for event in await world.events(task) if event.type == "results_kept"]
        assert events[-1].data["billing_differences"] == shown["billing_differences"]
        async with visitor(world) as someone:
            page = await someone.get(f"/ui/tasks/{task.id}")
        assert "Made otherwise than billed" in page.text
        assert difference["said"] in page.text
