"""Hunyuan3D by Tencent Cloud: every call is a POST to one path, names its action in a header, and is signed (TC3)."""

import dataclasses
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime

from service.domain.task import Result, State, Task, Update
from service.domain.validation import Mistake
from service.providers.dialect import Dialect, Facts, merge
from service.providers.hunyuan3d import answers
from service.providers.hunyuan3d.family import body_of, mistakes_in
from service.providers.read import kind_of, link
from service.providers.wire import Call, Reply

ACTIONS: Mapping[str, tuple[str, str]] = {
    "text_to_3d": ("SubmitHunyuanTo3DProJob", "QueryHunyuanTo3DProJob"),
    "image_to_3d": ("SubmitHunyuanTo3DProJob", "QueryHunyuanTo3DProJob"),
    "texture": ("SubmitTextureTo3DJob", "DescribeTextureTo3DJob"),
    "reduce_faces": ("SubmitReduceFaceJob", "DescribeReduceFaceJob"),
    "split_parts": ("SubmitHunyuan3DPartJob", "QueryHunyuan3DPartJob"),
    "unwrap_uv": ("SubmitHunyuanTo3DUVJob", "DescribeHunyuanTo3DUVJob"),
    "rig": ("SubmitAutoRiggingJob", "DescribeAutoRiggingJob"),
    "animate": ("SubmitHunyuanTo3DMotionJob", "DescribeHunyuanTo3DMotionJob"),
    "profile_to_3d": ("SubmitProfileTo3DJob", "DescribeProfileTo3DJob"),
    "convert_format": ("Convert3DFormat", ""),
}
"""The actions that submit and query, by operation."""
_RAPID = ("SubmitHunyuanTo3DRapidJob", "QueryHunyuanTo3DRapidJob")
_CHINA, _INTERNATIONAL = ("2025-05-13", "ap-guangzhou"), ("2023-09-01", "ap-singapore")
"""The version and region at the host in China, and at ``hunyuan.intl.tencentcloudapi.com``."""
_TYPE = "application/json"
_SIGNED = "content-type;host"


class Official(Dialect):
    """Tencent Cloud AI3D, at its host in China or at the international one. The key is ``SECRET_ID:SECRET_KEY``."""

    facts = Facts(
        family="hunyuan3d",
        name="official",
        operations=dict.fromkeys(ACTIONS, "/"),
        synchronous=frozenset({"convert_format"}),
        typical_seconds=dict.fromkeys(ACTIONS, 240.0) | {"convert_format": 60.0},
        result_lifetime=86400.0,
        cost_unit="credits",
        models_are_listed=False,
        experimental=True,  # no job of it has been seen: the pages of Tencent Cloud are all that is known
    )

    def create(self, task: Task, callback_url: str | None) -> Call:
        """Return the call that creates the job."""
        del callback_url
        return _call(_actions(task)[0], merge(body_of(task), task.options))

    def query(self, task: Task) -> Call:
        """Return the call that queries the job."""
        return _call(_actions(task)[1], {"JobId": task.external_id})

    def read_created(self, reply: Reply) -> Update:
        """Read the answer to a submit: the id of the job, or the converted file."""
        url = link(answers.response_of(reply).get("ResultFile3D"), relative=False)
        if reply.ok and url is not None:
            return Update(state=State.SUCCEEDED, results=(Result(kind_of(url, "model"), url),))
        return answers.read_created(reply)

    def read_status(self, reply: Reply) -> Update:
        """Read the job."""
        return answers.read_status(reply)

    def sign(self, call: Call, key: str, *, host: str, content: bytes, now: float) -> Call:
        """Return the call with Tencent's signature, where the key is a pair ``SECRET_ID:SECRET_KEY``."""
        identity, _, secret = key.partition(":")
        if not identity or not secret:
            return self.authorize(call, key)
        service = host.partition(".")[0]
        at = str(int(now))
        scope = f"{datetime.fromtimestamp(int(now), UTC):%Y-%m-%d}/{service}/tc3_request"
        named = f"content-type:{_TYPE}\nhost:{host}\n"
        request = f"{call.method}\n{call.path}\n\n{named}\n{_SIGNED}\n{hashlib.sha256(content).hexdigest()}"
        text = f"TC3-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        derived = f"TC3{secret}".encode()
        for part in scope.split("/"):
            derived = hmac.digest(derived, part.encode(), "sha256")
        signature = hmac.digest(derived, text.encode(), "sha256").hex()
        authorization = f"TC3-HMAC-SHA256 Credential={identity}/{scope}, SignedHeaders={_SIGNED}, Signature={signature}"
        version, region = _INTERNATIONAL if service == "hunyuan" else _CHINA
        named_by = {"X-TC-Version": version, "X-TC-Region": region, "X-TC-Timestamp": at}
        headers = {**call.headers, **named_by, "Authorization": authorization}
        return dataclasses.replace(call, headers=headers)

    def validate(self, task: Task) -> list[Mistake]:
        """Return what Tencent's pages rule out."""
        found = super().validate(task)
        return found + mistakes_in(task) if task.operation in self.facts.operations else found


def _actions(task: Task) -> tuple[str, str]:
    made = task.operation in {"text_to_3d", "image_to_3d"}
    return _RAPID if made and task.input.get("rapid") else ACTIONS[task.operation]


def _call(action: str, body: Mapping[str, object]) -> Call:
    headers = {"Content-Type": _TYPE, "X-TC-Action": action}
    return Call(method="POST", path="/", json=dict(body), headers=headers)
