"""How each provider says it: the explicit list of families, dialects and upstreams."""

import dataclasses
from collections.abc import Mapping

from service.providers import elk_task, midjourney, runway, suno
from service.providers.dialect import Dialect, Family

FAMILIES: Mapping[str, Family] = {family.name: family for family in (runway.FAMILY, midjourney.FAMILY, suno.FAMILY)}
"""Every family that can be asked for."""

DIALECTS: Mapping[str, Dialect] = {
    dialect.key: dialect
    for dialect in (
        runway.Aggregator(),
        runway.AggregatorOfficial(),
        runway.Official(),
        midjourney.Proxy(),
        suno.NewApi(),
        suno.NewApiRaw(),
        suno.SunoApi(),
        elk_task.ElkTask(),
    )
}
"""Every wire protocol, by family and name."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A host that is known by name: it becomes an upstream when its key is there."""

    name: str
    title: str
    base_url: str
    """The bare host: every dialect adds its own path."""
    key_variable: str
    """Environment variable that holds the key."""
    dialects: tuple[str, ...]
    """What it speaks, best first: the first dialect that has the operation serves it."""
    query_url: str = ""
    """The host that tells balances, where that is another one."""


PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            name="elkapi",
            title="ElkAPI",
            base_url="https://api.elkapi.com",
            key_variable="ELKAPI_KEY",
            dialects=(
                "runway/aggregator",
                "runway/aggregator-official",
                "midjourney/proxy",
                "suno/newapi",
                "any/elk-task",
            ),
            query_url="https://query.elkapi.com",
        ),
        Provider(
            name="cometapi",
            title="CometAPI",
            base_url="https://api.cometapi.com",
            key_variable="COMETAPI_KEY",
            dialects=("runway/aggregator", "runway/aggregator-official", "midjourney/proxy", "suno/newapi"),
            query_url="https://query.cometapi.com",
        ),
        Provider(
            name="runwayml",
            title="Runway",
            base_url="https://api.dev.runwayml.com",
            key_variable="RUNWAYML_API_SECRET",
            dialects=("runway/official",),
        ),
        Provider(
            name="sunoapi",
            title="SunoAPI",
            base_url="https://api.sunoapi.org",
            key_variable="SUNOAPI_KEY",
            dialects=("suno/sunoapi",),
        ),
        Provider(
            name="kie",
            title="Kie.ai",
            base_url="https://api.kie.ai",
            key_variable="KIE_KEY",
            dialects=("suno/sunoapi",),
        ),
    )
}
"""The gateways first, then the providers' own APIs, and resellers of one family: the order in which they serve unless settings say otherwise."""
