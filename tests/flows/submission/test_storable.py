"""The quick check of a request agrees with the one that names each mistake."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.flows.submission.request import MAX_DEPTH, MAX_VALUES, _is_storable, _unstorable

DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, 2**64, -(2**63) - 1])
    | st.floats()
    | st.text(alphabet="a\x00é", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet="b\x00", max_size=3), inner, max_size=4)
    ),
    max_leaves=30,
)


def nested(depth: int, innermost: Any) -> Any:
    document = innermost
    for level in range(depth):
        document = [document] if level % 2 else {"a": document}
    return document


@given(DOCUMENTS)
def test_what_the_quick_check_accepts_has_no_mistake(document: Any) -> None:
    assert not (_is_storable(document) and list(_unstorable(document)))


@pytest.mark.parametrize(
    "document",
    [
        {"a\x00": 1},
        {"a": ["\x00"]},
        nested(MAX_DEPTH + 1, 1),
        nested(MAX_DEPTH + 5, "\x00"),
        {"a": [0] * (MAX_VALUES + 1)},
        {"a": [float("nan")]},
        {"a": {"b": float("-inf")}},
        {"a": 2**64},
        [-(2**63) - 1],
    ],
    ids=[
        "a NUL in a name",
        "a NUL in a text",
        "too deep",
        "far too deep",
        "too many values",
        "nan",
        "inf",
        "65 bits",
        "-65 bits",
    ],
)
def test_unstorable_document_is_left_to_the_slow_check(document: Any) -> None:
    assert not _is_storable(document)
    assert list(_unstorable(document))


@pytest.mark.parametrize(
    "document",
    [
        {"family": "runway", "input": {"prompt": "a dove", "images": ["https://x.example/a.png"], "seed": 1}},
        {"a": [2**64 - 1, -(2**63), 0.5, 1e308, True, None, ""]},
    ],
    ids=["request", "numbers"],
)
def test_usual_document_is_accepted_at_once(document: Any) -> None:
    assert _is_storable(document)
