"""What is played: a Runway task for each way in which a provider, a network or a machine goes wrong, and other families."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from service.domain.task import Source, State

JOB_SECONDS: Final = 5.0
_LONGER: Final = "[seconds=11]"
"""For jobs whose callback is the only proof of them, or whose first word must be heard: Dovecote is back by then."""
KILLED: Final = "killed"

_EITHER: Final = frozenset({Source.CALLBACK, Source.POLL})
_BY_CALLBACK: Final = frozenset({Source.CALLBACK})
_BY_POLL: Final = frozenset({Source.POLL})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One task: what goes wrong with it, and how it must end all the same."""

    name: str
    title: str
    family: str = "runway"
    operation: str = "text_to_video"
    route: str = "POST /runway/pro/generate"
    """Where its submit arrives at the provider."""
    then: tuple[str, ...] = ()
    """Where it arrives after that, at the next upstream."""
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What its input has besides the prompt."""
    words: str = ""
    """The sandbox's words for it."""
    callbacks: int = 2
    """How many the sandbox sends for it: usually one when the job begins and one when it ends."""
    state: State = State.SUCCEEDED
    code: str | None = None
    """Why it failed, where it is to fail."""
    outcome_source: frozenset[Source] = _EITHER
    """How its end can have been learned."""
    proven_by: Source | None = None
    """Who must have brought the job's id, where the answer to the submit could not."""
    through: str | None = None
    """An event that its history must have."""
    refusals: int = 0
    """How many submits are refused before one is taken."""
    served_by: str = "elkapi"
    """The upstream that it must have come to in the end."""

    @property
    def prompt(self) -> str:
        """What the provider is asked for; no two scenes ask for the same."""
        return f"a dove comes home, {self.name} {self.words}".strip()

    @property
    def drops(self) -> bool:
        """Whether only polls can tell of it."""
        return self.outcome_source == _BY_POLL


SCENES: Final[tuple[Scene, ...]] = (
    Scene(name="fine", title="nothing goes wrong"),
    Scene(name="lost", title="the callback never comes", words="[drop]", callbacks=0, outcome_source=_BY_POLL),
    Scene(name="twice", title="every callback comes twice", words="[twice]", callbacks=4),
    Scene(
        name="early",
        title="the callback comes before the answer",
        words="[early] [seconds=0]",
        outcome_source=_BY_CALLBACK,
    ),
    Scene(name="late", title="callbacks come late and out of order", words="[late=3] [disorder]"),
    Scene(
        name="cut",
        title="the line is cut once the job is taken",
        words=f"[cut] {_LONGER}",
        proven_by=Source.CALLBACK,
        through=State.UNCONFIRMED,
    ),
    Scene(
        name="busy",
        title="busy at first: HTTP 429",
        words="[429]",
        through="upstream_unavailable",
        refusals=1,
    ),
    Scene(
        name="away",
        title="the gateway has no channel: HTTP 503",
        words="[503=3]",
        callbacks=0,
        outcome_source=_BY_POLL,
        through="upstream_unavailable",
        refusals=3,
        then=("POST /v1/text_to_video",),
        served_by="runwayml",
    ),
    Scene(name="failing", title="the job fails", words="[fail]", state=State.FAILED, code="provider_error"),
    Scene(
        name="moderated", title="the content is rejected", words="[moderate]", state=State.FAILED, code="content_policy"
    ),
    Scene(
        name="ghost",
        title="task_not_exist for a while, no callback",
        words=f"[ghost={JOB_SECONDS + 3:g}] [drop]",
        callbacks=0,
        outcome_source=_BY_POLL,
    ),
    Scene(
        name="contradicting",
        title="it succeeds, then says it failed",
        words=f"[contradict=1] {_LONGER}",
        callbacks=3,
    ),
    Scene(
        name="picture",
        title="Midjourney: callbacks never come",
        family="midjourney",
        operation="imagine",
        route="POST /mj/submit/imagine",
        words="[drop]",
        callbacks=0,
        outcome_source=_BY_POLL,
    ),
    Scene(
        name="song",
        title="Suno: a clip fails, the other is kept",
        family="suno",
        operation="music",
        route="POST /suno/submit/music",
        words="[halffail]",
        state=State.FAILED,
        code="provider_error",
    ),
    Scene(
        name=KILLED,
        title="kill -9 in the middle of the submit",
        words="[slow=20] [seconds=9] [late=2]",
        proven_by=Source.CALLBACK,
    ),
)
"""The tasks of the demo, in the order in which they are submitted."""
