"""The systems that the menus of ElkAPI and CometAPI list, and the families that serve them."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from service.providers.dialect import Dialect
from service.providers.registry import DIALECTS, FAMILIES

Support = Literal["works", "experimental", "not built", "out of scope"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """An entry of a gateway's menu."""

    title: str
    family: str | None
    """The family that serves it; None where it is no task."""
    operations: frozenset[str] | None = None
    """The operations of the family that belong to it; None: all."""
    note: str = ""

    def dialects(self) -> Sequence[Dialect]:
        """Return the dialects that serve it."""
        return [dialect for dialect in DIALECTS.values() if any(self._offered(dialect))]

    def support(self) -> Support:
        """Return whether it works here."""
        if self.family is None:
            return "out of scope"
        found = self.dialects()
        if not found:
            return "not built"
        return "experimental" if all(dialect.facts.experimental for dialect in found) else "works"

    def _offered(self, dialect: Dialect) -> Iterator[bool]:
        family = FAMILIES.get(self.family or "")
        if family is not None:
            for name in family.operations:
                if self.operations is None or name in self.operations:
                    yield dialect.offers(family.name, name)


SYSTEMS: Final = (
    System(title="Kling", family="kling"),
    System(title="Luma (Dream Machine, Ray, Photon)", family="luma"),
    System(title="Runway", family="runway"),
    System(title="Veo", family="veo"),
    System(title="MiniMax (Hailuo)", family="minimax"),
    System(title="Pika", family="pika"),
    System(title="Seedance, Seedream (ByteDance, Doubao)", family="seedance"),
    System(title="Vidu", family="vidu"),
    System(title="Wan (Alibaba)", family="wan"),
    System(title="Jimeng", family="jimeng"),
    System(title="Grok Imagine (xAI)", family="grok"),
    System(title="Sora, and its reverse format", family="sora"),
    System(title="Midjourney", family="midjourney"),
    System(title="Flux (Black Forest Labs)", family="flux"),
    System(title="Ideogram", family="ideogram"),
    System(title="Recraft", family="recraft"),
    System(title="Hunyuan3D", family="hunyuan3d"),
    System(title="Suno", family="suno"),
    System(title="Udio", family="udio"),
    System(title="Replicate", family="replicate"),
    System(title="OpenAI (images, GPT-4o image, videos, chat, responses, embeddings, audio)", family="openai"),
    System(title="Anthropic (messages)", family="anthropic"),
    System(title="Any other model, by its name", family="any"),
    System(
        title="Realtime", family=None, note="A realtime session has no job that can be submitted, polled and delivered."
    ),
)
"""Every system, video first. One whose family is not listed in the registry is not built."""


def all_systems() -> list[System]:
    """Return the systems of the menus, and before the last one the families that no menu lists."""
    *listed, last = SYSTEMS
    known = {each.family for each in SYSTEMS}
    others = [System(title=each.title, family=each.name) for each in FAMILIES.values() if each.name not in known]
    return [*listed, *others, last]
