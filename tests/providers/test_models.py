"""Lists of models are read in every form that sellers have, and anything else is an error."""

from typing import Any

import orjson
import pytest

from service.domain.errors import AccountProblem, UpstreamError
from service.providers.capabilities import CanListModels
from service.providers.models import MAX_MODELS, MAX_PAGES, listed_at
from service.providers.registry import DIALECTS
from service.providers.wire import Call, ModelList, ModelsExchange, Reply


def answered(exchange: ModelsExchange, *documents: Any, status: int = 200) -> tuple[ModelList, list[Call]]:
    """Answer the calls of an exchange with documents, the last one again and again; return its list and the calls."""
    calls = [next(exchange)]
    for number in range(100):
        document = documents[min(number, len(documents) - 1)]
        try:
            calls.append(exchange.send(Reply(status, body=orjson.dumps(document), endpoint=calls[-1].endpoint)))
        except StopIteration as done:
            return done.value, calls
    raise AssertionError("the list has no end")


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"object": "list", "data": [{"id": "a"}, {"id": "b"}]}, id="openai"),
        pytest.param({"success": True, "data": [{"id": "a"}, {"id": "b"}], "object": "list"}, id="new-api"),
        pytest.param({"data": [{"name": "a"}, {"model": "b"}]}, id="other names"),
        pytest.param({"data": ["a", "b"]}, id="texts"),
        pytest.param([{"id": "a"}, {"id": "b"}], id="bare list"),
        pytest.param({"models": [{"id": "a"}, {"id": "b"}]}, id="models"),
        pytest.param({"code": 200, "data": {"models": [{"id": "a"}, {"id": "b"}]}}, id="one level below"),
        pytest.param({"data": [{"id": "a"}, {"id": "a"}, {"id": None}, {}, 7.5, [], {"id": "b"}]}, id="odd rows"),
    ],
)
def test_list_is_read_in_every_form(document: Any) -> None:
    found, calls = answered(listed_at("/v1/models"), document)
    assert [name for name in found.names if name != "7.5"] == ["a", "b"]
    assert found.complete
    assert [(call.method, call.path, call.creates) for call in calls] == [("GET", "/v1/models", False)]


def test_empty_list_is_a_list() -> None:
    assert answered(listed_at("/v1/models"), {"data": []})[0] == ModelList(())


@pytest.mark.parametrize(
    ("status", "document"),
    [(200, {}), (200, "page"), (200, None), (401, {"data": []}), (404, {"error": {"message": "no"}}), (500, [])],
)
def test_answer_that_is_no_list_is_an_error(status: int, document: Any) -> None:
    with pytest.raises(UpstreamError):
        answered(listed_at("/v1/models"), document, status=status)


def test_refusal_with_http_200_is_a_problem_of_the_account() -> None:
    with pytest.raises(AccountProblem, match="no such token"):
        answered(listed_at("/v1/models"), {"success": False, "message": "no such token"})


def test_very_long_list_is_cut_and_not_complete() -> None:
    found, _ = answered(listed_at("/v1/models"), {"data": [{"id": f"m{number}"} for number in range(MAX_MODELS + 9)]})
    assert len(found.names) == MAX_MODELS


def test_models_of_runway_are_those_of_the_tier() -> None:
    dialect = DIALECTS["runway/official"]
    assert isinstance(dialect, CanListModels)
    tier = {"tier": {"models": {"gen4_turbo": {"maxConcurrentGenerations": 2}, "gen4_image": {}}}}
    assert answered(dialect.list_models(), tier)[0] == ModelList(("gen4_turbo", "gen4_image"))
    with pytest.raises(UpstreamError):
        answered(dialect.list_models(), {"tier": {}})


def test_models_of_replicate_are_read_page_by_page_from_its_own_host() -> None:
    dialect = DIALECTS["replicate/official"]
    assert isinstance(dialect, CanListModels)
    rows = [{"owner": "acme", "name": "kite"}, {"owner": "acme"}, 7]
    first = {"results": rows, "next": "https://elsewhere.example.com/v1/models?cursor=abc%3D"}
    last = {"results": [{"owner": "acme", "name": "lamp"}], "next": None}
    found, calls = answered(dialect.list_models(), first, last)
    assert found == ModelList(("acme/kite", "acme/lamp"))
    assert [call.path for call in calls] == ["/v1/models", "/v1/models?cursor=abc%3D"]
    endless, calls = answered(dialect.list_models(), first)
    assert (endless.names, endless.complete, len(calls)) == (("acme/kite",), False, MAX_PAGES)
