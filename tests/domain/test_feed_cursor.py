"""Cursors: opaque, exact, and valid only in the history that issued them."""

import itertools
import random

import pytest

from service.domain.feed_cursor import KEY_SIZE, Epoch, History, NotACursor, UnknownCursor, read_history

FIRST, SECOND, THIRD, OTHER = (letter * KEY_SIZE for letter in (b"a", b"b", b"c", b"d"))
HISTORY = History((Epoch(FIRST),))
POSITIONS = (1, 2, 3, 255, 256, 4711, 2**31, 2**63 - 1)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("client", ["default", "ålice", "a" * 200])
def test_cursor_is_read_as_the_position_it_was_made_of(position: int, client: str) -> None:
    cursor = HISTORY.encode(position, client)
    assert len(cursor) == 27
    assert HISTORY.decode(cursor, client) == position
    assert read_history(HISTORY.text).decode(cursor, client) == position


def test_cursors_of_neighbours_show_neither_order_nor_distance() -> None:
    cursors = [HISTORY.encode(position, "a") for position in range(1, 2001)]
    assert len(set(cursors)) == len(cursors)
    rises = sum(one < other for one, other in itertools.pairwise(cursors))
    assert 800 < rises < 1200
    assert HISTORY.encode(7, "a") != HISTORY.encode(7, "b")


def test_changed_cursor_is_refused() -> None:
    chance = random.Random(7)
    cursor = HISTORY.encode(4711, "a")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for place in range(26):  # the last letter has two bits of padding
        changed = chance.choice([letter for letter in letters if letter != cursor[place]])
        with pytest.raises(UnknownCursor):
            HISTORY.decode(cursor[:place] + changed + cursor[place + 1 :], "a")


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1.5", "00 ", "\u0661", str(2**63), "9" * 26, "A" * 26, "A" * 28, "*" * 27]
)
def test_text_that_is_no_cursor_is_a_mistake(text: str) -> None:
    with pytest.raises(NotACursor):
        HISTORY.decode(text, "a")


@pytest.mark.parametrize("text", ["1", "4711", str(2**63 - 1), "A" * 27])
def test_cursor_that_was_never_issued_is_unknown(text: str) -> None:
    with pytest.raises(UnknownCursor):
        HISTORY.decode(text, "a")


def test_beginning_is_valid_in_every_history() -> None:
    assert HISTORY.decode("0", "a") == History((Epoch(OTHER),)).decode("0", "b") == 0


def test_restore_refuses_only_cursors_issued_since_the_backup() -> None:
    cursors = {position: HISTORY.encode(position, "a") for position in (5, 10, 11, 400)}
    restored = HISTORY.restored(SECOND, 10)
    assert [restored.decode(cursors[position], "a") for position in (5, 10)] == [5, 10]
    for position in (11, 400):
        with pytest.raises(UnknownCursor):
            restored.decode(cursors[position], "a")
    own = restored.encode(11, "a")
    assert own != cursors[11]
    assert restored.decode(own, "a") == 11


def test_restore_of_a_restored_database_keeps_the_common_history() -> None:
    first, second = HISTORY, HISTORY.restored(SECOND, 100)
    third = second.restored(THIRD, 150)
    old = first.restored(OTHER, 90)  # from a backup of before the first restore
    assert third.decode(first.encode(100, "a"), "a") == 100
    assert third.decode(second.encode(150, "a"), "a") == 150
    assert old.decode(first.encode(90, "a"), "a") == 90
    for history, cursor in (
        (third, first.encode(101, "a")),
        (third, second.encode(151, "a")),
        (old, first.encode(91, "a")),
        (old, second.encode(10, "a")),
        (old, third.encode(10, "a")),
    ):
        with pytest.raises(UnknownCursor):
            history.decode(cursor, "a")


def test_key_of_an_epoch_is_not_shown() -> None:
    assert FIRST.decode() not in repr(HISTORY)
