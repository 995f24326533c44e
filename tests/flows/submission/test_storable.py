"""The quick check of a request agrees with the one that names each mistake."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.flows.submission.request import MAX_DEPTH, MAX_VALUES, _is_storable, _unstorable

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet="a\x00é", max_size=4),
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
    ],
    ids=["a NUL in a name", "a NUL in a text", "too deep", "far too deep", "too many values"],
)
def test_unstorable_document_is_left_to_the_slow_check(document: Any) -> None:
    assert not _is_storable(document)
    assert list(_unstorable(document))


def test_usual_document_is_accepted_at_once() -> None:
    assert _is_storable(
        {"family": "runway", "input": {"prompt": "a dove", "images": ["https://x.example/a.png"], "seed": 1}}
    )
