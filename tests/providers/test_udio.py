"""Udio: the bodies that are sent, songs without a status word, and follow-ups."""

import dataclasses
from typing import Any

import orjson
import pytest

from service.domain.errors import Uncertain
from service.domain.task import Result, State
from service.domain.validation import Mistake
from service.providers.registry import DIALECTS
from service.providers.wire import Reply
from tests.support.operations import task

AGGREGATOR, NEWAPI = DIALECTS["udio/aggregator"], DIALECTS["udio/newapi"]
SONG: dict[str, Any] = {"id": "s1", "finished": True, "song_path": "https://example.com/1/Echo%2520ext.mp3"}
FAILED: dict[str, Any] = {"id": "s2", "finished": False, "song_path": None, "error_detail": "Generation failed"}


def reply(document: Any, status: int = 200) -> Reply:
    return Reply(status, body=orjson.dumps(document))


@pytest.mark.parametrize("dialect", [AGGREGATOR, NEWAPI], ids=lambda each: each.facts.key)
def test_song_is_asked_for_with_udios_own_fields(dialect: Any) -> None:
    given = {"prompt": "rock", "lyrics": "words", "model": "udio32-v1.5", "clarity": 0.4, "section_start": 0.4}
    body = dialect.create(task(dialect.facts.key, "udio music", given=given), "https://x.example/").json
    params = body["gen_params"]
    assert {**params, "lyrics_type": "user", "model_type": "udio32-v1.5", "config": {"mode": "regular"}} == params
    assert (params["lyrics"], params["clarity_strength"], params["song_section_start"]) == ("words", 0.4, 0.4)
    assert set(body) == {"gen_params"}


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"prompt": "x"}, "generate"),
        ({"prompt": "x", "lyrics": "y"}, "user"),
        ({"prompt": "x", "instrumental": True}, "instrumental"),
    ],
)
def test_kind_of_lyrics_follows_from_the_input(given: dict[str, Any], kind: str) -> None:
    assert AGGREGATOR.create(task("udio/aggregator", given=given), None).json["gen_params"]["lyrics_type"] == kind


def test_options_win_over_the_fields() -> None:
    sent = task("udio/newapi", options={"gen_params": {"seed": 7}, "title": "mine"})
    body = NEWAPI.create(sent, None).json
    assert (body["gen_params"]["seed"], body["gen_params"]["model_type"], body["title"]) == (7, "udio130-v1.5", "mine")


def test_extension_names_the_song_of_its_parent() -> None:
    parent = dataclasses.replace(
        task("udio/newapi", "udio music"), results=(Result("audio", "https://x/1.mp3", item="s1"),)
    )
    extending = task("udio/newapi", "udio extend", given={"prompt": "more"})
    inherited = NEWAPI.from_parent(extending, parent)
    assert not isinstance(inherited, list)
    sent = dataclasses.replace(extending, inherited=inherited, parent_id=parent.id)
    assert NEWAPI.validate(sent) == []
    config = NEWAPI.create(sent, None).json["gen_params"]["config"]
    assert config == {"mode": "precede", "source": {"source_type": "song", "song_id": "s1"}}
    assert NEWAPI.validate(extending) == [Mistake("input.clip", "is required where there is no parent_id")]
    assert isinstance(NEWAPI.from_parent(extending, dataclasses.replace(parent, results=())), list)


def test_lyrics_of_an_instrumental_song_are_a_mistake() -> None:
    given = {"prompt": "x", "lyrics": "y", "instrumental": True}
    assert [each.path for each in AGGREGATOR.validate(task("udio/aggregator", given=given))] == ["input.lyrics"]


@pytest.mark.parametrize(
    ("songs", "state", "urls"),
    [
        pytest.param([SONG, {**SONG, "finished": False}], State.RUNNING, 0, id="one is still made"),
        pytest.param([SONG, FAILED], State.SUCCEEDED, 1, id="one of two failed"),
        pytest.param([FAILED, FAILED], State.FAILED, 0, id="both failed"),
        pytest.param([{**SONG, "song_path": None}], None, 0, id="finished without a recording"),
        pytest.param([{"id": "s", "finished": False, "error_code": 0}], State.RUNNING, 0, id="the code of no error"),
        pytest.param(
            [{"id": "s", "finished": False, "error_code": -0.0}], State.RUNNING, 0, id="no error as a fraction"
        ),
        pytest.param(
            [{"id": "s", "finished": False, "error_code": "00"}], State.RUNNING, 0, id="no error in two digits"
        ),
        pytest.param([{"id": "s", "finished": False, "error_code": 0.5}], State.FAILED, 0, id="a fraction as a code"),
        pytest.param([{"id": "s", "finished": True, "error_code": "0"}], None, 0, id="finished with no error"),
        pytest.param([], None, 0, id="none"),
        pytest.param([7, None, "x"], None, 0, id="odd rows"),
    ],
)
def test_state_follows_from_the_songs(songs: list[Any], state: State | None, urls: int) -> None:
    update = AGGREGATOR.read_status(reply({"songs": songs}))
    assert (update.state, len(update.results)) == (state, urls)


def test_url_of_a_song_is_left_as_it_is() -> None:
    assert AGGREGATOR.read_status(reply({"songs": [SONG]})).results[0].url == SONG["song_path"]


@pytest.mark.parametrize("document", [{"generation_id": "g1"}, {"track_ids": []}, {"message": "Success"}, "page"])
def test_submit_without_song_ids_is_uncertain(document: Any) -> None:
    with pytest.raises(Uncertain):
        AGGREGATOR.read_created(reply(document))


@pytest.mark.parametrize("place", [lambda songs: {"songs": songs}, lambda songs: {"data": {"songs": songs}}])
def test_songs_stand_beside_the_status_or_below_it(place: Any) -> None:
    record = {"task_id": "t1", "status": "SUCCESS", "progress": "100%", **place([SONG])}
    update = NEWAPI.read_status(reply({"code": "success", "data": record}))
    assert (update.state, update.external_id, len(update.results)) == (State.SUCCEEDED, "t1", 1)


def test_failure_without_a_reason_is_explained_by_its_songs() -> None:
    moderated = {**FAILED, "error_detail": "The prompt was rejected by moderation"}
    record = {"task_id": "t1", "status": "FAILURE", "fail_reason": "", "songs": [moderated]}
    update = NEWAPI.read_status(reply({"code": "success", "data": record}))
    assert update.failure is not None
    assert update.failure.code == "content_policy"


@pytest.mark.parametrize(
    ("name", "path", "wrapped"),
    [
        ("aggregator", "/udio/generate-proxy", True),
        ("generate", "/udio/generate", True),
        ("flat", "/udio/generate", False),
    ],
)
def test_each_variant_of_a_gateway_has_its_route_and_form(name: str, path: str, *, wrapped: bool) -> None:
    dialect = DIALECTS[f"udio/{name}"]
    call = dialect.create(task(dialect.facts.key, "udio music", given={"prompt": "rock"}, options={"seed": 7}), None)
    assert (call.path, "gen_params" in call.json, call.json["seed"]) == (path, wrapped, 7)
    assert (call.json["gen_params"] if wrapped else call.json)["prompt"] == "rock"
    assert dialect.facts.experimental
