"""The rows of a pure test in one item: each row runs, and a failure names its row."""

import contextlib

import pytest

from tests.support.folded import _all, rows_of

ROWS = pytest.mark.parametrize(("number", "word"), [(1, "one"), pytest.param(2, "two", id="a pair"), (3, "three")])


def arguments(function: object) -> list[dict[str, object]] | None:
    rows = rows_of(function)
    return rows and [{name: value for part in row for name, value in part.arguments.items()} for row in rows]


def test_rows_of_several_tables_are_multiplied() -> None:
    @pytest.mark.parametrize("sign", "+-")
    @ROWS
    def check(number: int, word: str, sign: str) -> None: ...

    found = arguments(check)
    assert found is not None
    assert len(found) == 6
    assert {"number": 2, "word": "two", "sign": "-"} in found


@pytest.mark.parametrize(
    ("names", "values", "ids", "texts"),
    [
        ("one", [1, None], None, ["1", "None"]),
        ("one", {"a": 1, "b": 2}, None, ["a", "b"]),
        ("one", [(1, 2)], None, ["(1, 2)"]),
        (("one",), [(1,), (2,)], None, ["1", "2"]),
        ("one, two", [(1, 2), (3, 4)], ["first", "second"], ["first", "second"]),
        (["one", "two"], [(1, 2)], None, ["1-2"]),
        ("one", [1, 2], lambda value: f"number {value}" if value == 1 else None, ["number 1", "2"]),
        ("one", [pytest.param(1, id="named"), 2], ["first", "second"], ["named", "second"]),
        ("one", [""], lambda _: "", [""]),
    ],
)
def test_row_has_the_id_that_pytest_gives_it(names: object, values: object, ids: object, texts: list[str]) -> None:
    def one(one: object) -> None: ...
    def two(one: object, two: object) -> None: ...

    function = two if "two" in names else one  # type: ignore[operator]
    rows = rows_of(pytest.mark.parametrize(names, values, ids=ids)(function))  # type: ignore[arg-type]
    assert rows is not None
    assert [str(part) for (part,) in rows] == texts


def with_fixture() -> object:
    @ROWS
    def check(number: int, word: str, tmp_path: object) -> None: ...

    return check


def asynchronous() -> object:
    @ROWS
    async def check(number: int, word: str) -> None: ...

    return check


def marked() -> object:
    @pytest.mark.long
    @ROWS
    def check(number: int, word: str) -> None: ...

    return check


def with_a_marked_row() -> object:
    @pytest.mark.parametrize("number", [1, 2, pytest.param(3, marks=pytest.mark.long)])
    def check(number: int) -> None: ...

    return check


def indirect() -> object:
    @pytest.mark.parametrize("number", [1, 2, 3], indirect=True)
    def check(number: int) -> None: ...

    return check


def without_rows() -> object:
    def check() -> None: ...

    return check


@pytest.mark.parametrize("made", [with_fixture, asynchronous, marked, with_a_marked_row, indirect, without_rows])
def test_function_that_pytest_has_to_read_is_left_to_it(made) -> None:  # type: ignore[no-untyped-def]
    assert rows_of(made()) is None


def test_each_row_runs_and_a_failure_names_its_row() -> None:
    seen = []

    @ROWS
    def check(number: int, word: str) -> None:
        seen.append(number)
        assert number != 2

    rows = rows_of(check)
    assert rows is not None
    with pytest.raises(AssertionError) as failure:
        _all(check, rows)()
    assert seen == [1, 2]
    assert failure.value.__notes__ == ["in the case: a pair"]


@pytest.mark.parametrize("skipped", [{1}, {1, 2, 3}])
def test_item_is_skipped_where_every_row_is(skipped: set[int]) -> None:
    seen = []

    @pytest.mark.parametrize("number", [1, 2, 3])
    def check(number: int) -> None:
        seen.append(number)
        if number in skipped:
            pytest.skip("not here")

    rows = rows_of(check)
    assert rows is not None
    with pytest.raises(pytest.skip.Exception) if skipped == {1, 2, 3} else contextlib.nullcontext():
        _all(check, rows)()
    assert seen == [1, 2, 3]
