"""Hunyuan3D: actions and fields that are sent, Tencent's signature, and errors with HTTP 200."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from service.domain.errors import AccountProblem, NotFound, Refused, Unavailable, Uncertain
from service.domain.task import State
from service.providers.hunyuan3d.official import ACTIONS
from service.providers.registry import DIALECTS
from service.providers.wire import Call, Reply
from tests.support.operations import OPERATIONS, task

OFFICIAL, GATEWAY = DIALECTS["hunyuan3d/official"], DIALECTS["hunyuan3d/aggregator"]
IMAGE = "https://example.com/chair.png"


def made(operation: str, given: dict[str, Any], dialect: Any = OFFICIAL) -> Call:
    return dialect.create(task(dialect.facts.key, f"hunyuan3d {operation}", given=given), None)


def reply(document: Any, endpoint: str = "") -> Reply:
    return Reply(200, body=orjson.dumps(document), endpoint=endpoint)


@pytest.mark.parametrize("wanted", [wanted for name, wanted in OPERATIONS if name == "hunyuan3d/official"])
def test_every_operation_has_its_action(wanted: str) -> None:
    example = task("hunyuan3d/official", wanted)
    assert OFFICIAL.validate(example) == []
    submit, query = ACTIONS[example.operation]
    assert OFFICIAL.create(example, None).headers["X-TC-Action"] == submit
    if query:
        asked = OFFICIAL.query(example)
        assert (asked.headers["X-TC-Action"], asked.json) == (query, {"JobId": "job-1"})


@pytest.mark.parametrize(
    ("operation", "given", "body"),
    [
        ("text_to_3d", {"prompt": "a kitten", "pbr": True, "face_count": 5000}, {"Prompt": "a kitten", "EnablePBR": True, "FaceCount": 5000}),
        ("image_to_3d", {"image": IMAGE}, {"ImageUrl": IMAGE}),
        ("image_to_3d", {"image": "data:image/png;base64,AAAA"}, {"ImageBase64": "AAAA"}),
        (
            "image_to_3d",
            {"image": IMAGE, "views": [{"view": "back", "image": IMAGE}, {"view": "left", "image": "data:;base64,BB"}]},
            {
                "ImageUrl": IMAGE,
                "MultiViewImages": [{"ViewType": "back", "ViewImageUrl": IMAGE}, {"ViewType": "left", "ViewImageBase64": "BB"}],
            },
        ),
        ("texture", {"file": "https://x.example/a.glb?s=1", "image": IMAGE}, {"File3D": {"Url": "https://x.example/a.glb?s=1", "Type": "GLB"}, "Image": {"Url": IMAGE}}),
        ("unwrap_uv", {"file": "https://x.example/a", "file_type": "FBX"}, {"File": {"Url": "https://x.example/a", "Type": "FBX"}}),
        ("unwrap_uv", {"file": "https://x.example/a"}, {"File": {"Url": "https://x.example/a"}}),
        ("reduce_faces", {"file": "https://x.example/a.zip?s=1.2"}, {"File3D": {"Url": "https://x.example/a.zip?s=1.2", "Type": "OBJ"}}),
        ("text_to_3d", {"prompt": "a kitten", "rapid": True, "style": "Geometry"}, {"Prompt": "a kitten", "EnableGeometry": True}),
        ("animate", {"prompt": "it walks", "duration": 5.0}, {"Prompt": "it walks", "Duration": 5}),
        ("profile_to_3d", {"image": IMAGE, "template": "basketball"}, {"Profile": {"Url": IMAGE}, "Template": "basketball"}),
        ("convert_format", {"file": "https://x.example/a.obj", "format": "GIF"}, {"File3D": "https://x.example/a.obj", "Format": "GIF"}),
    ],
)  # fmt: skip
def test_input_is_sent_in_tencents_names(operation: str, given: dict[str, Any], body: dict[str, Any]) -> None:
    body_sent = made(operation, given).json
    assert body_sent == body
    assert not any(isinstance(value, float) for value in body_sent.values())


def test_recorded_submit_is_made_of_our_fields() -> None:
    folder = Path(__file__).parents[1] / "recordings" / "hunyuan3d" / "official"
    recorded = orjson.loads((folder / "submit_request.pro.json").read_bytes())["body"]
    views = [{"view": "back", "image": recorded["MultiViewImages"][0]["ViewImageUrl"]}]
    given = {"model": "3.1", "image": recorded["ImageUrl"], "pbr": True, "face_count": 300000, "style": "Normal"}
    assert made("image_to_3d", given | {"views": views}).json == recorded


def test_rapid_model_has_actions_and_routes_of_its_own() -> None:
    given = {"prompt": "a kitten", "rapid": True}
    assert made("text_to_3d", given).headers["X-TC-Action"] == "SubmitHunyuanTo3DRapidJob"
    assert made("text_to_3d", given, GATEWAY).path == "/tencent/hunyuan3d/rapid-job"
    asked = GATEWAY.query(task("hunyuan3d/aggregator", "hunyuan3d text_to_3d", given=given))
    assert (asked.method, asked.path, asked.creates) == ("POST", "/tencent/hunyuan3d/query-rapid-job", False)
    assert not GATEWAY.facts.creates(asked.endpoint)


@pytest.mark.parametrize(
    ("operation", "given", "paths"),
    [
        ("text_to_3d", {"prompt": "x" * 1025}, ["input.prompt"]),
        ("text_to_3d", {"prompt": "x" * 201, "rapid": True}, ["input.prompt"]),
        ("text_to_3d", {"prompt": "x", "rapid": True, "model": "3.1"}, ["input.model"]),
        ("image_to_3d", {"image": IMAGE, "prompt": "x"}, ["input.prompt"]),
        ("image_to_3d", {"image": IMAGE, "prompt": "x", "style": "Sketch"}, []),
        ("image_to_3d", {"image": IMAGE, "prompt": "x", "rapid": True}, ["input.prompt"]),
        ("text_to_3d", {"prompt": "x", "rapid": True, "style": "Geometry"}, []),
        ("text_to_3d", {"prompt": "x", "rapid": True, "style": "LowPoly"}, ["input.style"]),
        ("text_to_3d", {"prompt": "x", "model": "3.1", "style": "LowPoly"}, ["input.style"]),
        ("text_to_3d", {"prompt": "x", "polygon": "triangle"}, ["input.polygon"]),
        ("text_to_3d", {"prompt": "x", "polygon": "triangle", "style": "LowPoly"}, []),
        ("text_to_3d", {"prompt": "x", "format": "OBJ"}, ["input.format"]),
        ("text_to_3d", {"prompt": "x", "format": "OBJ", "rapid": True}, []),
        ("image_to_3d", {"image": IMAGE, "views": [{"view": "top", "image": IMAGE}]}, ["input.views"]),
        ("image_to_3d", {"image": IMAGE, "views": [{"view": "top", "image": IMAGE}], "model": "3.1"}, []),
        ("texture", {"file": "https://x.example/a.glb", "prompt": "oak", "image": IMAGE}, ["input.prompt"]),
        ("texture", {"file": "https://x.example/a.glb", "views": [{"view": "left", "image": IMAGE}]}, ["input.views"]),
        ("animate", {"prompt": "x" * 129, "duration": 12.5}, ["input.prompt", "input.duration"]),
        ("convert_format", {"file": "https://x.example/a.obj", "format": "GLB"}, ["input.format"]),
    ],
)
def test_mistakes_are_named_before_the_purchase(operation: str, given: dict[str, Any], paths: list[str]) -> None:
    found = OFFICIAL.validate(task("hunyuan3d/official", f"hunyuan3d {operation}", given=given))
    assert [mistake.path for mistake in found] == paths


def test_signature_is_that_of_tencents_sdk() -> None:
    call = Call(method="POST", path="/", json={"JobId": "1"}, headers={"X-TC-Action": "QueryHunyuanTo3DProJob"})
    signed = OFFICIAL.sign(
        call, "id:secret-key", host="ai3d.tencentcloudapi.com", content=b'{"JobId":"1"}', now=1795600000.4
    )
    assert signed.headers["Authorization"] == (
        "TC3-HMAC-SHA256 Credential=id/2026-11-25/ai3d/tc3_request, SignedHeaders=content-type;host, "
        "Signature=c26be2daeaf065a37c6f60ae8849aebf30dbcd8234a6c66e1c28a92418abb263"
    )
    assert (signed.headers["X-TC-Version"], signed.headers["X-TC-Timestamp"]) == ("2025-05-13", "1795600000")


def test_international_host_has_its_own_version() -> None:
    call = Call(method="POST", path="/", json={}, headers={"X-TC-Action": "QueryHunyuanTo3DProJob"})
    signed = OFFICIAL.sign(call, "id:key", host="hunyuan.intl.tencentcloudapi.com", content=b"{}", now=1795600000.0)
    assert (signed.headers["X-TC-Version"], "/hunyuan/tc3_request" in signed.headers["Authorization"]) == (
        "2023-09-01",
        True,
    )


def test_key_that_is_no_pair_is_sent_as_it_is() -> None:
    call = Call(method="POST", path="/", json={})
    assert OFFICIAL.sign(call, "key", host="x", content=b"", now=0.0).headers["Authorization"] == "Bearer key"


@pytest.mark.parametrize(
    ("code", "error", "ours"),
    [
        ("InvalidParameterValue.Prompt", Refused, "invalid_input"),
        ("MissingParameter", Refused, "invalid_input"),
        ("FailedOperation.ImageModeration", Refused, "content_policy"),
        ("OperationDenied.TextIllegal", Refused, "content_policy"),
        ("AuthFailure.SecretIdNotFound", AccountProblem, "unauthorized"),
        ("UnauthorizedOperation", AccountProblem, "forbidden"),
        ("ResourceUnavailable.NotExist", AccountProblem, "forbidden"),
        ("ResourceUnavailable.LowBalance", AccountProblem, "insufficient_credit"),
        ("ResourceInsufficient", AccountProblem, "insufficient_credit"),
        ("LimitExceeded", Unavailable, "rate_limited"),
        ("RequestLimitExceeded.JobNumExceed", Unavailable, "rate_limited"),
        ("FailedOperation.JobNumExceed", Unavailable, "rate_limited"),
        ("ServiceUnavailable", Unavailable, "overloaded"),
        ("RequestSizeLimitExceeded", Refused, "invalid_input"),
        ("ResourceUnavailable.ChargeResourceExhaust", AccountProblem, "insufficient_credit"),
        ("IpNotInWhitelist", AccountProblem, "forbidden"),
        ("UnsupportedRegion", AccountProblem, "provider_error"),
        ("NoSuchVersion", AccountProblem, "provider_error"),
        ("FailedOperation", Uncertain, "provider_error"),
        ("InternalError.Timeout", Uncertain, "provider_error"),
        ("Something.New", Uncertain, "provider_error"),
    ],
)
def test_error_with_http_200_is_classified_by_its_code(code: str, error: type[Exception], ours: str) -> None:
    document = {"Response": {"Error": {"Code": code, "Message": "words"}, "RequestId": "r"}}
    with pytest.raises(error) as found:
        OFFICIAL.read_created(reply(document))
    assert found.value.code == ours  # type: ignore[attr-defined]
    if error in {Refused, Uncertain}:  # a query never ends a task by itself
        with pytest.raises(Unavailable):
            OFFICIAL.read_status(reply(document))


def test_query_of_an_unknown_job_is_not_found() -> None:
    with pytest.raises(NotFound):
        OFFICIAL.read_status(reply({"Response": {"Error": {"Code": "ResourceNotFound", "Message": "no"}}}))


def test_cost_and_previews_are_read() -> None:
    files = [
        {"Type": "GLB", "Url": "https://x/a.glb", "PreviewImageUrl": "https://x/a.png"},
        {"Type": "MP4", "Url": "https://x/a.mp4"},
    ]
    update = OFFICIAL.read_status(
        reply({"Response": {"Status": "DONE", "ResultFile3Ds": files, "ResultCreditConsumed": 30.0}})
    )
    assert [(each.kind, each.role) for each in update.results] == [
        ("model", "result"),
        ("video", "result"),
        ("image", "cover"),
    ]
    assert update.cost == 30.0


def test_converted_file_is_the_answer_itself() -> None:
    update = OFFICIAL.read_created(reply({"Response": {"ResultFile3D": "https://x/a.glb", "RequestId": "r"}}))
    assert (update.state, [each.url for each in update.results]) == (State.SUCCEEDED, ["https://x/a.glb"])


def test_older_answer_groups_the_files() -> None:
    group = [{"Type": "GIF", "Url": "https://x/a.gif"}, {"Type": "OBJ", "Url": "https://x/a.zip"}]
    update = OFFICIAL.read_status(reply({"Response": {"Status": "DONE", "ResultFile3Ds": [{"File3D": group}]}}))
    assert [(each.kind, each.url) for each in update.results] == [
        ("image", "https://x/a.gif"),
        ("model", "https://x/a.zip"),
    ]


def test_parts_come_with_their_description() -> None:
    said = {"Status": "DONE", "PartSegmentationInfoUrl": "https://x/a.json"}
    update = OFFICIAL.read_status(reply({"Response": {**said, "ResultFile3Ds": [{"Url": "https://x/a.fbx"}]}}))
    assert [(each.kind, each.role) for each in update.results] == [("model", "result"), ("json", "extra")]
    assert OFFICIAL.read_status(reply({"Response": said})).state is None


@pytest.mark.parametrize(
    ("given", "path", "body"),
    [
        ({"prompt": "x"}, "/tencent/hunyuan3d/pro-job", {"Prompt": "x"}),
        ({"prompt": "x", "model": "3.1"}, "/tencent/hunyuan3d/pro-job", {"Prompt": "x", "Model": "3.1"}),
        ({"prompt": "x", "model": "hy-3d"}, "/v1/images/generations", {"prompt": "x", "model": "hy-3d"}),
    ],
)
def test_gateways_path_follows_from_the_model(given: dict[str, Any], path: str, body: dict[str, Any]) -> None:
    assert (made("text_to_3d", given, GATEWAY).path, made("text_to_3d", given, GATEWAY).json) == (path, body)


def test_field_that_openais_path_lacks_is_a_mistake() -> None:
    given = {"prompt": "x", "model": "hy-3d", "face_count": 5000}
    found = GATEWAY.validate(task("hunyuan3d/aggregator", "hunyuan3d text_to_3d", given=given))
    assert [mistake.path for mistake in found] == ["input.face_count"]


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ({"url": "https://x/a.glb"}, "https://x/a.glb"),
        ({"b64_json": "Z2xURg=="}, "data:model/gltf-binary;base64,Z2xURg=="),
    ],
)
def test_gateway_may_answer_in_openais_form(entry: dict[str, str], url: str) -> None:
    for read in (GATEWAY.read_created, GATEWAY.read_status):
        update = read(reply({"created": 1, "data": [entry]}))
        assert (update.state, [(each.kind, each.url) for each in update.results]) == (State.SUCCEEDED, [("model", url)])


def test_resellers_id_is_taken_and_an_answer_without_files_is_uncertain() -> None:
    update = GATEWAY.read_created(reply({"task_id": "t-1", "created_at": 1}))
    assert (update.state, update.external_id) == (State.SUBMITTED, "t-1")
    for document in ({"created": 1, "data": []}, {"Response": {"RequestId": "r"}}):
        with pytest.raises(Uncertain):
            GATEWAY.read_created(reply(document))


@pytest.mark.parametrize(
    ("code", "message", "ours"),
    [
        ("FailedOperation.InnerError", "inner error", "provider_error"),
        ("FailedOperation.ImageSensitive", "no", "content_policy"),
        ("InvalidParameter.Image", "too small", "invalid_input"),
        ("", "the prompt violates the content policy", "content_policy"),
        ("", "", "unknown"),
    ],
)
def test_failure_is_read_by_its_code_and_then_its_message(code: str, message: str, ours: str) -> None:
    update = OFFICIAL.read_status(reply({"Response": {"Status": "FAIL", "ErrorCode": code, "ErrorMessage": message}}))
    assert update.failure is not None
    assert update.failure.code == ours
