"""Answers about another job, and codes in envelopes, for every dialect."""

import dataclasses
import json

import pytest

from service.domain.errors import Uncertain, Unreadable
from service.domain.task import State
from service.providers.capabilities import CanCancel
from service.providers.registry import DIALECTS
from service.providers.wire import Reply
from tests.support.cases import per_dialect
from tests.support.operations import OPERATIONS, task

CODES = (408, 425, 499, 500, 502, 504, *range(520, 527))
RUNNING = {
    "runway/aggregator": lambda job: {"code": 200, "data": {"task_id": job, "status": "1"}},
    "runway/aggregator-official": lambda job: {"code": "success", "data": {"task_id": job, "status": "IN_PROGRESS"}},
    "runway/official": lambda job: {"id": job, "status": "RUNNING", "createdAt": "x"},
    "midjourney/proxy": lambda job: {"id": job, "status": "IN_PROGRESS"},
    "suno/newapi": lambda job: {"code": "success", "data": {"task_id": job, "status": "IN_PROGRESS"}},
    "suno/newapi-raw": lambda job: [{"id": job, "status": "streaming", "audio_url": ""}],
    "suno/sunoapi": lambda job: {"code": 200, "data": {"taskId": job, "status": "PENDING"}},
    "suno/kie-jobs": lambda job: {"code": 200, "data": {"taskId": job, "state": "generating"}},
    "any/elk-task": lambda job: {"id": job, "status": "in_progress"},
    "vidu/official": lambda job: {"id": job, "state": "processing"},
    "wan/official": lambda job: {"output": {"task_id": job, "task_status": "RUNNING"}},
    "openai/responses": lambda job: {"id": job, "object": "response", "status": "in_progress"},
    "replicate/official": lambda job: {"id": job, "status": "processing"},
    "minimax/official-v2": lambda job: {"task_id": job, "status": "Processing"},
    "seedance/ark": lambda job: {"id": job, "status": "running"},
    "seedance/modelark": lambda job: {"id": job, "status": "running"},
    "anthropic/batches": lambda job: {"id": job, "processing_status": "in_progress"},
}
WITHOUT_ID = {"fal/queue", "replicate/cog"}
"""Dialects whose answer to a cancel states no id."""
CANCELLING = [name for name, dialect in DIALECTS.items() if isinstance(dialect, CanCancel) and name not in WITHOUT_ID]


def drive(exchange, document, status=200):
    try:
        next(exchange)
        while True:
            exchange.send(Reply(status, {}, json.dumps(document).encode()))
    except StopIteration as done:
        return done.value


@pytest.mark.parametrize("name", RUNNING)
def test_answer_about_the_asked_job_is_read(name):
    update = drive(DIALECTS[name].poll(task(name)), RUNNING[name]("job-1"))
    assert update.state in {State.SUBMITTED, State.RUNNING}


@pytest.mark.parametrize("name", RUNNING)
def test_answer_about_another_job_is_no_news(name):
    with pytest.raises(Unreadable, match="job-1, and answered about job 9"):
        drive(DIALECTS[name].poll(task(name)), RUNNING[name]("9"))


@pytest.mark.parametrize("name", CANCELLING)
def test_cancel_stops_at_an_answer_about_another_job(name):
    with pytest.raises(Unreadable, match="answered about job 9"):
        drive(DIALECTS[name].cancel(task(name)), RUNNING[name]("9"))


def test_vendors_own_id_in_a_bare_object_is_not_compared():
    bare = {"id": "vendor-7", "status": "RUNNING", "createdAt": "x"}
    assert (
        drive(DIALECTS["runway/aggregator-official"].poll(task("runway/aggregator-official")), bare).state
        is State.RUNNING
    )


ENVELOPES = (
    lambda code: {"code": code, "msg": "gateway time-out", "data": None},
    lambda code: {"code": str(code), "message": "no answer"},
    lambda code: {"error": {"code": code, "message": "no answer"}},
    lambda code: {"status_code": code, "detail": "no answer"},
)


@per_dialect([(name, envelope(code)) for name in DIALECTS for envelope in ENVELOPES for code in CODES])
def test_code_of_a_broken_gateway_in_an_envelope_is_uncertain(name, document):
    operation = next((wanted for dialect, wanted in OPERATIONS if dialect == name), None)
    if operation is None or operation.split()[1] in DIALECTS[name].facts.free:
        return
    with pytest.raises(Uncertain):
        drive(DIALECTS[name].submit(dataclasses.replace(task(name, operation), external_id=None), None), document)


def test_gateway_that_quotes_the_vendors_success_is_uncertain():
    for name in (name for name, dialect in DIALECTS.items() if dialect.facts.operations):
        for status in (200, 201, 202):
            quoted = {"code": "fail_to_fetch_task", "message": '{"id": "vendor-job-1"}', "data": None}
            with pytest.raises(Uncertain):
                drive(DIALECTS[name].submit(task(name), None), quoted, status)


@pytest.mark.parametrize("name", ["runway/aggregator", "midjourney/proxy", "suno/newapi", "any/elk-task"])
@pytest.mark.parametrize(
    "document",
    [
        {"code": "bad_response_status_code", "message": "bad response status code 504", "data": None},
        {"error": {"code": "bad_response_status_code", "message": "status code 502", "type": "upstream_error"}},
        {"code": "GATEWAY_TIMEOUT", "message": "no answer"},
        {"error": {"code": "empty_response", "message": "empty response from the vendor"}},
        {"code": "upstream", "message": "context deadline exceeded"},
    ],
)
def test_gateway_that_blames_the_vendor_with_http_200_is_uncertain(name, document):
    with pytest.raises(Uncertain):
        drive(DIALECTS[name].submit(dataclasses.replace(task(name), external_id=None), None), document)


@pytest.mark.parametrize("document", [{"code": 504, "msg": "x"}, {"status": "error"}, {"message": "x", "data": None}])
def test_json_in_place_of_a_speech_is_no_speech(document):
    with pytest.raises(Uncertain):
        drive(DIALECTS["openai/audio"].submit(task("openai/audio", "openai text_to_speech"), None), document)
