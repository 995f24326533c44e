"""Large inputs are recognised, and shortened to what polls and lists need."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.large_input import MAX_INPUT, MAX_TEXT, is_large, shortened

PICTURE = "data:image/png;base64," + "A" * 100_000
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=50) | st.just("x" * 9_000),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("documents", "large"),
    [
        (({}, {}), False),
        (({"prompt": "x" * MAX_TEXT}, {}), False),
        (({"image": PICTURE}, {}), True),
        (({}, {"image": PICTURE}), True),
        (({"images": ["A" * 7_000, "A" * 7_000, "A" * 7_000]}, {}), True),
        (({"a": {"b": {"c": PICTURE}}}, {}), True),
        (({}, {str(number): number for number in range(MAX_INPUT)}), True),
        (({"image": "A" * (MAX_INPUT // 2)}, {"image": "A" * (MAX_INPUT // 2)}), True),
    ],
    ids=["empty", "prompt", "picture", "picture in options", "three texts", "nested", "many values", "both together"],
)
def test_input_over_the_limit_is_large(documents: tuple[dict, dict], *, large: bool) -> None:
    assert is_large(*documents) is large


def test_shortened_input_keeps_everything_but_long_texts() -> None:
    document = {"prompt": "a dove", "speed": "fast", "image": PICTURE, "images": [PICTURE], "more": {"seed": 1}}
    brief = shortened(document)
    assert {name: brief[name] for name in ("prompt", "speed", "more")} == {
        "prompt": "a dove",
        "speed": "fast",
        "more": {"seed": 1},
    }
    assert brief["image"].startswith("data:image/png;base64,A")
    assert brief["image"].endswith("…")
    assert len(brief["images"][0]) < 100


@given(st.dictionaries(st.text(max_size=8), DOCUMENTS, max_size=6))
def test_shortened_input_is_never_large(document: dict) -> None:
    assert not is_large(shortened(document))


def test_shortened_input_with_too_many_values_keeps_the_model() -> None:
    brief = shortened({"model": "gen4", "points": [[number, number] for number in range(20_000)]})
    assert brief == {"model": "gen4"}
