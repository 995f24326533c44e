"""The tasks of the demo: a Runway task for each fault of a provider, a network or a machine, and four more families."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from service.domain.task import Source, State

JOB_SECONDS: Final = 5.0
_LONGER: Final = "[seconds=11]"
"""For jobs that only a callback proves, and whose first callback must arrive: Dovecote is back by then."""
KILLED: Final = "killed"
DELETED: Final = "deleted"
UPSTREAMS: Final = ("elkapi", "runwayml", "kling", "replicate")
"""The upstreams that the sandbox stands for."""

_EITHER: Final = frozenset({Source.CALLBACK, Source.POLL})
_BY_CALLBACK: Final = frozenset({Source.CALLBACK})
_BY_POLL: Final = frozenset({Source.POLL})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One task: its fault, and its expected end."""

    name: str
    title: str
    family: str = "runway"
    operation: str = "text_to_video"
    route: str = "POST /runway/pro/generate"
    """The route of its submission at the provider."""
    then: tuple[str, ...] = ()
    """The routes of further submissions, at the next upstreams."""
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of its input besides the prompt."""
    words: str = ""
    """The fault in the sandbox's notation."""
    callbacks: int = 2
    """Number of callbacks that the sandbox sends: usually one at the start and one at the end of the job."""
    state: State = State.SUCCEEDED
    code: str | None = None
    """The expected failure code; None where it must succeed."""
    outcome_source: frozenset[Source] = _EITHER
    """The possible sources of its outcome."""
    proven_by: Source | None = None
    """The required source of the job's id, where the response to the submission is lost."""
    through: str | None = None
    """An event that its history must contain."""
    refusals: int = 0
    """Number of submissions that are refused before one is accepted."""
    served_by: str = "elkapi"
    """The upstream that must serve it in the end."""
    upstream: str | None = None
    """The upstream that it names; None: the default route of its family."""

    @property
    def prompt(self) -> str:
        """The prompt; it differs for every scene."""
        return f"a dove comes home, {self.name} {self.words}".strip()


SCENES: Final[tuple[Scene, ...]] = (
    Scene(name="fine", title="no failure"),
    Scene(name=DELETED, title="the provider deletes the film soon", words="[filegone=12]"),
    Scene(name="lost", title="callback never arrives", words="[drop]", callbacks=0, outcome_source=_BY_POLL),
    Scene(name="twice", title="every callback arrives twice", words="[twice]", callbacks=4),
    Scene(
        name="early",
        title="callback arrives before the response",
        words="[early] [seconds=0]",
        outcome_source=_BY_CALLBACK,
    ),
    Scene(name="late", title="callbacks arrive late and out of order", words="[late=3] [disorder]"),
    Scene(
        name="cut",
        title="connection lost after the submit",
        words=f"[cut] {_LONGER}",
        proven_by=Source.CALLBACK,
        through=State.UNCONFIRMED,
    ),
    Scene(
        name="busy",
        title="HTTP 429 at first",
        words="[429]",
        through="upstream_unavailable",
        refusals=1,
    ),
    Scene(
        name="away",
        title="HTTP 503, no channel at the gateway",
        words="[503=3]",
        callbacks=0,
        outcome_source=_BY_POLL,
        through="upstream_unavailable",
        refusals=3,
        then=("POST /v1/text_to_video",),
        served_by="runwayml",
    ),
    Scene(name="failing", title="job fails", words="[fail]", state=State.FAILED, code="provider_error"),
    Scene(name="moderated", title="content is rejected", words="[moderate]", state=State.FAILED, code="content_policy"),
    Scene(
        name="ghost",
        title="task_not_exist at first, no callback",
        words=f"[ghost={JOB_SECONDS + 3:g}] [drop]",
        callbacks=0,
        outcome_source=_BY_POLL,
    ),
    Scene(
        name="contradicting",
        title="reported as succeeded, then as failed",
        words=f"[contradict=1] {_LONGER}",
        callbacks=3,
    ),
    Scene(
        name="picture",
        title="Midjourney: callbacks never arrive",
        family="midjourney",
        operation="imagine",
        route="POST /mj/submit/imagine",
        words="[drop]",
        callbacks=0,
        outcome_source=_BY_POLL,
    ),
    Scene(
        name="song",
        title="Suno: one clip fails, the other is kept",
        family="suno",
        operation="music",
        route="POST /suno/submit/music",
        words="[halffail]",
        state=State.FAILED,
        code="provider_error",
    ),
    Scene(
        name="film",
        title="Kling, its own API: every callback twice",
        family="kling",
        route="POST /klingai/v1/videos/{kind}",
        words="[twice]",
        callbacks=4,
        upstream="kling",
        served_by="kling",
    ),
    Scene(
        name="model",
        title="Replicate: callbacks never arrive",
        family="replicate",
        operation="text_to_image",
        route="POST /replicate-api/v1/models/{owner}/{name}/predictions",
        more={"model": "black-forest-labs/flux-schnell"},
        words="[drop]",
        callbacks=0,
        outcome_source=_BY_POLL,
        upstream="replicate",
        served_by="replicate",
    ),
    Scene(
        name=KILLED,
        title="kill -9 during the submit",
        words="[slow=20] [seconds=9] [late=2]",
        proven_by=Source.CALLBACK,
    ),
)
"""The tasks of the demo, in the order in which they are submitted."""
