"""Rules for every dialect, at any answer of its provider. A dialect is tested as soon as the registry lists it."""

import dataclasses
import datetime as dt
import functools
import itertools
import json
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.errors import CODES, NotFound, Uncertain, Unreadable, UpstreamError
from service.domain.task import ENDED, WITHOUT_RESULT, State, Update
from service.domain.validation import Schema
from service.providers.capabilities import CanCancel, CanListJobs, CanPollMany, CanTellBalance
from service.providers.dialect import Dialect
from service.providers.recordings import read_message
from service.providers.registry import DIALECTS, FAMILIES, PROVIDERS
from service.providers.wire import Callback, Reply
from tests.support.cases import case, per_dialect, share
from tests.support.operations import NOW, OPERATIONS, schema_of, task

RECORDINGS = Path(__file__).parents[1] / "recordings"
KEY = "sk-a-very-secret-key"
HOOK = "https://dovecote.example/callbacks/token"
STATES = {"queued": State.SUBMITTED, None: None} | {str(state): state for state in State if state != State.QUEUED}


@functools.cache
def recordings_of(name):
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((RECORDINGS / name).glob("*.json"))]


def recorded(name, *kinds):
    """Return a dialect's recordings of these kinds, without requests."""
    return [message for message in recordings_of(name) if message["kind"] in (kinds or ANSWERS)]


ANSWERS = ("submit_response", "poll_response", "callback", "error", "cancel_response")
CREATING = [name for name, dialect in DIALECTS.items() if dialect.facts.operations]
"""The dialects that serve an operation; the others only read callbacks."""
MESSAGES = [(name, message) for name in DIALECTS for message in recorded(name)]


def label_of(message):
    return f"{message['kind']} {message['http_status']} {message['endpoint']} {message['body']}"


def raw(document):
    return document.encode("utf-8", "surrogatepass") if isinstance(document, str) else json.dumps(document).encode()


def read(name, message, body):
    """Read a message with another body. Return an UpstreamError like any other result."""
    status = message["http_status"] or (400 if message["kind"] == "error" else 200)
    try:
        reply = Reply(status, message.get("headers", {}), body, message["endpoint"])
        return read_message(DIALECTS[name], message["kind"], reply)
    except UpstreamError as error:
        return error


def sound(found):
    """Check the rules that hold for every reading."""
    if isinstance(found, UpstreamError):
        assert found.code in CODES
        storable(found.message)
        return None
    assert isinstance(found, Update)
    assert found.state in {None, State.SUBMITTED, State.RUNNING, State.AWAITING_INPUT, *ENDED} - {State.EXPIRED}
    assert found.progress is None or 0 <= found.progress <= 100
    assert found.external_id is None or found.external_id.strip()
    assert found.failure is None or found.failure.code in CODES
    if found.state is State.SUCCEEDED:
        # A helper's answer is data for the next call, and no output.
        assert any(result.role == "result" or result.kind == "json" for result in found.results)
    assert (found.state is State.FAILED) <= (found.failure is not None)
    texts = [found.external_id, found.unknown_word, found.failure and found.failure.message]
    storable(*texts, *(result.url for result in found.results), *(result.text for result in found.results))
    return found.state


def storable(*texts):
    """Check that no text is unstorable in a database or a JSON document."""
    for text in texts:
        if text is not None:
            text.encode()
            assert "\x00" not in text


# Garbage ---------------------------------------------------------------------------------------------------------

GARBAGE = [
    b"",
    b"{}",
    b"null",
    b"[]",
    b"[{}]",
    b"true",
    b"0",
    b"-1e999",
    b"NaN",
    b'"text"',
    b"\x00",
    b"\xff\xfe\x00",
    b"<html><body>502 Bad Gateway</body></html>",
    b"404 page not found",
    b"error code: 524",
    b'{"code"',
    b'{"code":200,"msg":"\xe6\x88',
    b"[" * 10_000,
    b'{"data":' * 10_000,
    b'{"data":' * 400 + b"1" + b"}" * 400,
    b'{"status":{},"state":[],"data":{"status":[],"data":[]}}',
    b'{"message":"ok","success":true}',
    '{"message":"\ud800\x00"}'.encode("utf-8", "surrogatepass"),
    json.dumps({"message": "\ud800\x00 gone", "error": {"message": "\udfff", "code": "\x00"}}).encode(),
    b"7" * 10_000,
]


KINDS = ("submit_response", "poll_response", "callback", "error")
STATUSES = (200, 204, 301, 400, 401, 404, 429, 500, 503, 524)


@per_dialect(itertools.product(DIALECTS, itertools.product(KINDS, STATUSES)))
def test_garbage_raises_no_foreign_error_and_ends_no_task(name, answer):
    check_garbage(name, *answer, share(GARBAGE, 3, name, *answer))


@pytest.mark.long
@per_dialect(itertools.product(DIALECTS, itertools.product(KINDS, STATUSES)))
def test_all_garbage_raises_no_foreign_error_and_ends_no_task(name, answer):
    check_garbage(name, *answer, GARBAGE)


def check_garbage(name, kind, status, bodies):
    dialect = DIALECTS[name]
    route = f"POST {next(iter(dialect.facts.operations.values()), '')}"
    for body in bodies:
        endpoint = route if kind in {"submit_response", "error"} else "GET /"
        found = read(name, {"kind": kind, "endpoint": endpoint, "http_status": status}, body)
        assert sound(found) not in ENDED
        if endpoint == route and status in {200, 204, 500, 524} and name in CREATING:
            assert isinstance(found, Uncertain), (body[:40], found)


@per_dialect(MESSAGES, label_of)
def test_truncated_body_reports_nothing(name, message):
    check_truncated(name, message, step=21)


@pytest.mark.long
@per_dialect(MESSAGES, label_of)
def test_body_truncated_anywhere_reports_nothing(name, message):
    check_truncated(name, message, step=5)


def check_truncated(name, message, *, step):
    body = raw(message["body"])
    for end in range(0, len(body), step):
        found = read(name, message, body[:end])
        if isinstance(message["body"], str) and message["kind"] == "submit_response":
            sound(found)  # bytes and texts have no end that could be missing: the transport tells
            continue
        assert sound(found) not in ENDED
        if message["kind"] == "submit_response":
            assert isinstance(found, Uncertain)
        elif message["kind"] in {"poll_response", "callback"}:
            # An empty body can be an answer: engines send it for an unknown id.
            assert isinstance(found, Unreadable if end else (Unreadable, NotFound))


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(min_value=10_000),
    st.integers(max_value=-1),
    st.sampled_from(["", " ", "\x00", "\ud800", "frobnicated", "x" * 5000, [], {}, [[]], [None], [{}], {"data": {}}]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.sampled_from(["id", "url", "message", "code", "data"]), st.integers(min_value=10_000)),
)


def paths_in(document, path=()):
    """Return the paths of all values in a document."""
    if isinstance(document, dict):
        inner = document.items()
    elif isinstance(document, list):
        inner = enumerate(document)
    else:
        return [path]
    return [path, *(place for key, value in inner for place in paths_in(value, (*path, key)))]


def changed(document, path, value, *, removed):
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    if len(path) == 1 and removed:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(copy[path[0]], path[1:], value, removed=removed)
    return copy


CONTENT_IS_THE_VERDICT = {
    "jimeng/official": {"binary_data_base64", "image_urls", "video_url"},  # done: succeeded with an output, else failed
    "openai/chat": {
        "content",
        "finish_reason",
        "model",
        "refusal",
    },  # a text without a picture is the reason of a failure
    "sora/reverse": {"content"},
    "veo/aggregator": {"content"},  # the log of a chat that has ended: with a film, or without one
    "veo/chat": {"content"},
    "veo/gemini": {"generateVideoResponse", "generatedSamples", "response"},  # done without a video is a failure
    "veo/vertex": {"generateVideoResponse", "response", "videos", "gcsUri", "bytesBase64Encoded"},
}
"""The fields by which a dialect tells success from failure, by the provider's pages: with another value the same message is another
end. Every other field may have any type. Of a job that runs these dialects report no end either."""


ERROR_IS_THE_VERDICT = {
    name: {"error_code", "error_detail", "error_type"} for name in ("udio/aggregator", "udio/flat", "udio/generate")
}
"""The fields by which a dialect without a status word knows that a running job has failed: any text or number there is an error."""


@pytest.mark.parametrize("examples", [150, pytest.param(600, marks=pytest.mark.long)])
def test_wrong_types_end_no_task(examples):
    """One field gets a value of another type. Nothing raises, and a running task does not end."""
    slow = [HealthCheck.too_slow]
    settings(max_examples=examples, deadline=None, suppress_health_check=slow)(given(st.data())(end_no_task))()


def end_no_task(data):
    name, message = data.draw(st.sampled_from(MESSAGES))
    document, touched = message["body"], set()
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(paths_in(document)))
        touched |= {path}
        document = changed(document, path, data.draw(JUNK), removed=data.draw(st.booleans()))
    state = sound(read(name, message, raw(document)))
    # Of a list, another task may have become the first.
    told = {STATES[each.get("state")] for each in message.get("readings", [message["reading"]])}
    verdict = CONTENT_IS_THE_VERDICT.get(name, frozenset())
    if told & ENDED and any(verdict & {*path} for path in touched):
        return
    errors = ERROR_IS_THE_VERDICT.get(name, frozenset())
    if state is State.FAILED and any(errors & {*path} for path in touched):
        return
    same = state in told or {state, *told} <= WITHOUT_RESULT
    assert state not in ENDED or same or message["kind"] == "cancel_response"


@per_dialect(MESSAGES, label_of)
def test_unknown_status_ends_no_task_and_is_reported(name, message):
    document, found = message["body"], 0
    for path in paths_in(document):
        if path and path[-1] in {"status", "state", "task_status", "taskStatus"} and document:
            document, found = changed(document, path, "Frobnicated", removed=False), found + 1
    if not found or message["kind"] == "error":
        return
    update = read(name, message, raw(document))
    state = sound(update)
    facts = DIALECTS[name].facts
    at_once = {f"POST {facts.operations[operation]}" for operation in facts.synchronous}
    if message["endpoint"] in at_once and isinstance(update, Uncertain):
        return  # there is no job that could be polled
    # An output that is there is proof enough, whatever the word.
    assert state not in ENDED or (state is State.SUCCEEDED and message["reading"]["state"] == "succeeded")
    assert update.unknown_word == "frobnicated" or state is State.SUCCEEDED


# Repeated updates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, dialect in DIALECTS.items() if dialect.facts.callbacks])
def test_callback_and_poll_of_the_same_state_give_the_same_update(name):
    dialect, told = DIALECTS[name], recorded(name, "callback", "poll_response")
    assert any(message["kind"] == "callback" for message in told)
    for message in told:
        if message["http_status"] not in {None, 200} or "error" in message["reading"]:
            continue
        headers, body = message.get("headers", {}), raw(message["body"])
        assert dialect.read_callback(Callback(headers, body)) == [dialect.read_status(Reply(200, headers, body))]


@pytest.mark.parametrize("name", DIALECTS)
def test_forged_signature_is_rejected(name):
    dialect = DIALECTS[name]
    assert dialect.verify_signature(Callback({}, b"{}"), "a secret") is not True
    for message in recorded(name, "callback"):
        if "secret" in message:
            headers, body, at = message["headers"], message["raw_body"].encode(), message.get("received_at")
            right = message["reading"].get("verified", True)
            assert dialect.verify_signature(Callback(headers, body, at), message["secret"]) is right
            if not dialect.facts.confirms:  # otherwise the signature does not cover the body
                assert dialect.verify_signature(Callback(headers, body + b" ", at), message["secret"]) is False
            assert dialect.verify_signature(Callback(headers, body, at), message["secret"] + "x") is False


# Requests --------------------------------------------------------------------------------------------------------


def drive(exchange, answer):
    """Run an exchange in which every call gets the same reply. Return the calls."""
    calls = []
    try:
        call = next(exchange)
        while len(calls) < 20:
            calls.append(call)
            call = exchange.send(answer)
    except (StopIteration, UpstreamError):
        return calls
    raise AssertionError("an exchange without an end")


ANSWER_ANYTHING = (Reply(200, {}, b"{}"), Reply(503, {}, b""), Reply(200, {}, b"<html>"))


@functools.cache
def exchanges(name, operation, parts=3):
    """Return the calls of every exchange of a dialect, with a provider of minimal answers and one of recorded answers."""
    return tuple(_exchanges(name, operation, parts))


def _exchanges(name, operation, parts):
    dialect, one = DIALECTS[name], task(name, operation)
    yes = {(message["http_status"] or 200, raw(message["body"])): None for message in recorded(name)}
    some = share([*yes], parts, operation)
    for answer in (*ANSWER_ANYTHING, *(Reply(status, {}, body) for status, body in some)):
        yield "submit", drive(dialect.submit(one, HOOK), answer)
        yield "poll", drive(dialect.poll(one), answer)
        if isinstance(dialect, CanCancel):
            yield "cancel", drive(dialect.cancel(one), answer)
        if isinstance(dialect, CanPollMany):
            yield "batch", drive(dialect.poll_many([one]), answer)
        if isinstance(dialect, CanTellBalance):
            yield "balance", drive(dialect.balance(), answer)
        if isinstance(dialect, CanListJobs):
            yield "lost jobs", drive(dialect.find_lost_jobs(one), answer)


@per_dialect(OPERATIONS)
def test_creating_call_is_the_last_of_a_submit_only(name, operation):
    check_creating_call(name, operation, exchanges(name, operation))


@pytest.mark.long
@per_dialect(OPERATIONS)
def test_every_recorded_answer_leads_to_right_calls(name, operation):
    check_creating_call(name, operation, exchanges(name, operation, 1))
    check_credentials(name, exchanges(name, operation, 1))


def check_creating_call(name, operation, found):
    for verb, calls in found:
        assert [call.creates for call in calls[:-1]] == [False] * len(calls[:-1])
        if verb == "submit":
            kind = operation.split()[1]
            assert calls[-1].creates is (kind not in DIALECTS[name].facts.free)
            at_once = kind in DIALECTS[name].facts.synchronous - DIALECTS[name].facts.free
            assert calls[-1].read_timeout == (600 if at_once else DIALECTS[name].facts.submit_timeout) >= 60
        elif calls:
            assert not calls[-1].creates


@per_dialect(OPERATIONS)
def test_credentials_are_added_by_authorize_only(name, operation):
    check_credentials(name, exchanges(name, operation))


def check_credentials(name, found):
    dialect = DIALECTS[name]
    for _, calls in found:
        for call in calls:
            assert call.path.startswith("/")
            assert not {"authorization", "x-api-key", "x-key", "cookie"} & {header.lower() for header in call.headers}
            sent = dialect.authorize(call, KEY)
            assert KEY in json.dumps(dict(sent.headers))
            assert dataclasses.replace(sent, headers=call.headers) == call


@per_dialect(OPERATIONS)
def test_callback_url_is_sent_where_supported(name, operation):
    dialect = DIALECTS[name]
    call = dialect.create(task(name, operation), HOOK)
    assert (HOOK in json.dumps(call.body, default=str) + unquote(call.path)) == (
        dialect.facts.callbacks and operation.split()[1] not in dialect.facts.synchronous
    )
    json.dumps(dialect.create(task(name, operation), None).body, default=str)


@per_dialect(OPERATIONS)
def test_options_override_the_mapped_input(name, operation):
    """A route without a body refuses options instead of dropping them."""
    dialect = DIALECTS[name]
    mapped = dialect.create(task(name, operation), HOOK).body
    if mapped is None:
        mistakes = dialect.validate(task(name, operation, options={"field_of_tomorrow": 1}))
        assert [mistake.path for mistake in mistakes] == ["options"]
        return
    for field in {*mapped, "field_of_tomorrow"} - dialect.facts.reserved:
        body = dialect.create(task(name, operation, options={field: "as said"}), HOOK).body
        assert body[field] == "as said"


@per_dialect(OPERATIONS)
def test_reserved_options_are_refused(name, operation):
    dialect = DIALECTS[name]
    assert "callback_url" in dialect.facts.reserved
    for field in dialect.facts.reserved:
        mistakes = dialect.validate(task(name, operation, options={field: "https://evil.example/"}))
        assert f"options.{field}" in [mistake.path for mistake in mistakes]


@per_dialect(OPERATIONS)
def test_field_with_the_callback_url_is_refused_in_options(name, operation):
    """Otherwise a client's options could redirect the provider's callback."""
    dialect = DIALECTS[name]
    body = dialect.create(task(name, operation), HOOK).body or {}
    for field in (field for field, value in body.items() if HOOK in json.dumps(value, default=str)):
        mistakes = dialect.validate(task(name, operation, options={field: "https://evil.example/"}))
        assert f"options.{field}" in [mistake.path for mistake in mistakes]


@per_dialect(OPERATIONS)
def test_minimal_input_is_validated_and_created(name, operation):
    """No input that the schema accepts raises an internal error, complete or not."""
    schema = schema_of(operation)
    examples = schema["examples"][0]
    least = {field: examples[field] for field in schema["required"]}
    for wanted in (task(name, operation), task(name, operation, given=least)):
        assert Schema(schema).mistakes(wanted.input) == []
        DIALECTS[name].validate(wanted)
        json.dumps(DIALECTS[name].create(wanted, None).body, default=str)


@pytest.mark.parametrize("name", CREATING)
def test_unsupported_operation_is_rejected(name):
    stranger = dataclasses.replace(task(name), operation="levitate")
    assert [mistake.path for mistake in DIALECTS[name].validate(stranger)] == ["operation"]


# What the provider lists -----------------------------------------------------------------------------------------

LISTS = [name for name, dialect in DIALECTS.items() if isinstance(dialect, CanListJobs)]
ROW = {"task_id": "t1", "platform": "suno", "action": "MUSIC", "submit_time": NOW.timestamp(), "data": None}
NEW_API_LIST = {"success": True, "message": "", "data": {"page": 1, "page_size": 100, "total": 1, "items": [ROW]}}
NOW_MS = int(NOW.timestamp() * 1000)
LIST_OF = {
    "minimax/official-v2": {
        "items": [{"id": "t1", "model": "MiniMax-H3", "status": "running", "created_at": int(NOW.timestamp())}],
        "total": 1,
    },
    "kling/official": {"code": 0, "data": {"task_id": "t1", "task_status": "submitted", "created_at": NOW_MS}},
    "kling/official-v2": {"code": 0, "data": [{"id": "t1", "status": "submitted", "create_time": NOW_MS}]},
    "luma/official": {"has_more": False, "count": 1, "generations": [{"id": "t1", "created_at": NOW.isoformat()}]},
    "seedance/ark": {"items": [{"id": "t1", "status": "running", "created_at": int(NOW.timestamp())}], "total": 1},
    "seedance/modelark": {"items": [{"id": "t1", "status": "running", "created_at": int(NOW.timestamp())}], "total": 1},
    "anthropic/batches": {"has_more": False, "data": [{"id": "t1", "created_at": NOW.isoformat()}]},
    "replicate/official": {"previous": None, "next": None, "results": [{"id": "t1", "created_at": NOW.isoformat()}]},
}
"""The list of one job in the words of a dialect; new-api's where none is given."""


def list_of(name):
    return LIST_OF.get(name, NEW_API_LIST)


def recalled(name, answer):
    """Run the exchange about the list of jobs, with the same reply to every call."""
    exchange = DIALECTS[name].find_lost_jobs(task(name))
    try:
        next(exchange)
        for _ in range(100):
            exchange.send(answer)
    except StopIteration as done:
        return done.value
    except UpstreamError as error:
        return error
    raise AssertionError("a list without an end")


@pytest.mark.parametrize("name", LISTS)
def test_listed_job_is_read(name):
    found = recalled(name, Reply(200, {}, raw(list_of(name))))
    assert [(each.external_id, each.created_at) for each in found] == [("t1", NOW.timestamp())]


@per_dialect(itertools.product(LISTS, (*STATUSES, 403)))
def test_unreadable_list_is_an_error(name, status):
    """An empty list would mean that nothing was bought."""
    for body in GARBAGE:
        found = recalled(name, Reply(status, {}, body))
        assert isinstance(found, UpstreamError), (body[:40], found)
        assert found.code in CODES
        storable(found.message)


@pytest.mark.parametrize("name", LISTS)
def test_truncated_list_is_an_error(name):
    body = raw(list_of(name))
    for end in range(len(body)):
        assert isinstance(recalled(name, Reply(200, {}, body[:end])), UpstreamError)


@pytest.mark.parametrize("examples", [50, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", LISTS)
def test_wrong_types_in_a_list_raise_no_foreign_error(name, examples):
    settings(max_examples=examples, deadline=None)(given(st.just(name), st.data())(raise_no_foreign_error))()


def raise_no_foreign_error(name, data):
    document = list_of(name)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(paths_in(document)))
        document = changed(document, path, data.draw(JUNK), removed=data.draw(st.booleans()))
    found = recalled(name, Reply(200, {}, raw(document)))
    for each in () if isinstance(found, UpstreamError) else found:
        storable(each.external_id)
        dt.datetime.fromtimestamp(each.created_at, dt.UTC)  # a time that there is


# The base --------------------------------------------------------------------------------------------------------


def test_dialect_has_at_most_twelve_methods():
    methods = [name for name in vars(Dialect) if not name.startswith("_")]
    assert len(methods) <= 12, methods
    assert Dialect.__annotations__.keys() == {"facts"}


# The list --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIALECTS)
def test_dialect_is_complete(name):
    dialect = DIALECTS[name]
    assert dialect.facts.operations.keys() == {operation.split()[1] for other, operation in OPERATIONS if other == name}
    assert dialect.facts.typical_seconds.keys() <= dialect.facts.operations.keys()
    assert dialect.facts.batch_size >= 1
    assert len(type(dialect).__mro__) == 3, "depth of inheritance: one"
    assert recorded(name), "no recordings: record before you code"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_family_describes_its_operations(family):
    names = [name for each in family.operations.values() for name in (each.name, *each.aliases)]
    assert len(names) == len(set(names))
    served = {operation for _, operation in OPERATIONS}
    assert {f"{family.name} {name}" for name in family.operations} <= served, "an operation that nobody serves"
    for name, operation in family.operations.items():
        assert name == operation.name
        assert operation.input["additionalProperties"] is False
        assert all(field.get("description") for field in operation.input["properties"].values())
        assert Schema(operation.input).mistakes(operation.input["examples"][0]) == []


A_DAY = {("anthropic", "batch")}
"""Operations that the provider may finish within a day."""


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_deadline_exceeds_the_usual_duration(family):
    """It is several times the usual duration, and longer than the read time-out of a synchronous operation."""
    for name, operation in family.operations.items():
        serving = [dialect for dialect in DIALECTS.values() if dialect.offers(family.name, name)]
        for dialect in serving:
            assert operation.deadline >= 5 * dialect.facts.typical_seconds.get(name, 60.0)
            assert operation.deadline > dialect.facts.read_timeout(name) + 60
        longest = 26 * 3600 if (family.name, name) in A_DAY else 2 * 3600
        assert 600 < operation.deadline <= longest


def test_host_lists_known_dialects_only():
    for provider in PROVIDERS.values():
        assert set(provider.dialects) <= DIALECTS.keys()
        assert not provider.base_url.endswith("/")


def test_every_model_name_has_a_length_limit():
    """It is a key of statistics and prices, and lists show it."""
    models = [
        operation.input["properties"].get("model")
        for each in FAMILIES.values()
        for operation in each.operations.values()
    ]
    assert all(each is None or each["maxLength"] <= 200 or "enum" in each for each in models)


def read_callback(name, body):
    try:
        return DIALECTS[name].read_callback(Callback({}, body))
    except UpstreamError as error:
        return str(error)


@pytest.mark.parametrize("name", [name for name, dialect in DIALECTS.items() if dialect.facts.callbacks])
def test_callback_that_is_a_list_of_one_is_read_as_its_item(name):
    for message in recorded(name, "callback"):
        if isinstance(message["body"], dict):
            with case(label_of(message)):
                assert read_callback(name, raw([message["body"]])) == read_callback(name, raw(message["body"]))
