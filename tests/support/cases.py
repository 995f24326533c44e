"""Many small cases in one test: pytest needs more time for a test than such a case does. A failure names its case."""

import contextlib
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest


@contextlib.contextmanager
def case(*names: object) -> Iterator[None]:
    """Add the names of a case to its failure."""
    try:
        yield
    except BaseException as error:  # pytest's own failures are no Exception
        error.add_note(f"in the case: {' · '.join(str(name)[:80] for name in names)}")
        raise


def share(values: Sequence[Any], parts: int, *names: object) -> Sequence[Any]:
    """Return one of several parts of the values. Other names get another part, so that many names together cover all values."""
    first = zlib.crc32(" ".join(map(str, names)).encode()) % parts
    return values[first::parts]


def per_dialect(pairs: Iterable[tuple[str, Any]], label: Callable[[Any], object] = str) -> Callable[[Any], Any]:
    """Run a test over pairs of a dialect and a value: one test for each dialect, which goes through the dialect's values.

    :param label: names a value in a failure
    """
    values: dict[str, list[Any]] = defaultdict(list)
    for name, value in pairs:
        values[name].append(value)

    def decorate(check: Callable[[str, Any], None]) -> Callable[[str], None]:
        def test(name: str) -> None:
            for value in values[name]:
                with case(label(value)):
                    check(name, value)

        test.__name__, test.__doc__, test.__module__ = check.__name__, check.__doc__, check.__module__
        marked: Callable[[str], None] = pytest.mark.parametrize("name", values)(test)
        return marked

    return decorate
