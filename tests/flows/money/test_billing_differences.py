"""A difference between what was made and what was billed is shown on the task, in its event and on its page."""

from pathlib import Path

from tests.support.kept_results import finished, keeping
from tests.support.pages import visitor

PRICES = """
schema = 1
[[price]]
id = "elk"
upstream = "elkapi"
unit = "points"
per = "second"
rate = "9"
quantity = { field = "duration" }
checked = 2026-11-27
"""


async def test_short_film_is_shown_once_its_file_is_kept(database_url: str, tmp_path: Path) -> None:
    """The film of the sandbox has 3 seconds."""
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES, encoding="utf-8")
    async with keeping(database_url, DOVECOTE_MONEY__PRICES_FILE=str(prices)) as world:
        task = await finished(world, input={"prompt": "a dove", "duration": 5})
        shown = (await world.client.get(f"/v1/tasks/{task.id}")).json()
        kept = [each for each in shown["results"] if each.get("duration")]
        assert kept, shown["results"]
        [difference] = [each for each in shown["billing_differences"] if each["kind"] == "seconds"]
        assert difference["made"] == "3"
        assert float(difference["billed"]) > 3
        events = [event for event in await world.events(task) if event.type == "results_kept"]
        assert events[-1].data["billing_differences"] == shown["billing_differences"]
        async with visitor(world) as someone:
            page = await someone.get(f"/ui/tasks/{task.id}")
        assert "Made otherwise than billed" in page.text
        assert difference["said"] in page.text
