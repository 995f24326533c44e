"""Read the metrics of a world."""

from prometheus_client.parser import text_string_to_metric_families

from tests.support.world import World

Numbers = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scraped(world: World, *, anew: bool = True) -> Numbers:
    """Return every sample, by its name and labels.

    :param anew: read the database again, although a second has not passed
    """
    if anew:
        world.state.row_metrics.forget()
    response = await world.client.get("/metrics")
    assert response.status_code == 200, response.text
    return numbers_in(response.text)


def numbers_in(text: str) -> Numbers:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def number(found: Numbers, name: str, **labels: str) -> float:
    return found.get((f"dovecote_{name}", tuple(sorted(labels.items()))), 0.0)
