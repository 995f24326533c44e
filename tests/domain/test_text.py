"""Text from outside: the characters that are removed, and where the text is cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.text import one_line, shortened, storable


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\x00b\x1bc\x9fd", "abcd"),
        ("a\ud800b", "a\ufffdb"),
        ("pay \u202egnp.exe", "pay gnp.exe"),
        ("a\u200bb\ufeffc", "abc"),
        ("line 1\r\nline 2\rline 3\tend", "line 1\nline 2\nline 3\tend"),
        ("一只猫 😀", "一只猫 😀"),
    ],
)
def test_unstorable_characters_are_removed(text, kept):
    assert storable(text) == kept


@given(st.text(st.characters()))
def test_any_text_becomes_storable(text):
    kept = storable(text)
    assert "\x00" not in kept
    json.dumps(kept, ensure_ascii=False).encode()
    assert storable(kept) == kept


def test_each_single_character_that_is_unsafe_is_removed_or_replaced():
    unsafe = [
        *range(9),
        11,
        12,
        *range(13, 32),
        *range(127, 160),
        0x61C,
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
    ]
    unsafe = [*unsafe, 0x2060, *range(0x2066, 0x206A), 0xFEFF, 0xD800, 0xDFFF]
    kept = {chr(code) for code in unsafe if storable(f"a{chr(code)}b") == f"a{chr(code)}b"}
    assert kept == {"\u200c", "\u200d"}  # joiners, which scripts and emoji need


def test_one_line_has_single_spaces():
    assert one_line(" a\n\n b\t c ") == "a b c"


@given(st.text(), st.integers(1, 50))
def test_shortened_text_has_a_mark(text, most):
    cut = shortened(text, most)
    assert len(cut) <= most
    assert cut == text or cut.endswith("…")
