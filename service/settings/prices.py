"""Load the price book: the prices that come with Dovecote, and a file of the operator over them."""

import functools
import tomllib
from pathlib import Path
from typing import Any

from service.domain.money.book import merged, read_book
from service.domain.money.quotes import PriceBook
from service.domain.validation import Mistake

SHIPPED = Path(__file__).parents[1] / "prices.toml"
OWN_LAYER = 1


class PriceError(Exception):
    """A price file cannot be used; each mistake is one line with its place."""

    def __init__(self, path: Path, mistakes: list[Mistake]) -> None:
        """Keep the mistakes."""
        super().__init__("\n".join(f"{path}: {each.path}: {each.message}" for each in mistakes))
        self.mistakes = mistakes


def load_prices(path: Path | None = None, *, shipped: bool = True) -> PriceBook:
    """Return all prices.

    :param path: the operator's own file
    :param shipped: whether the prices that come with Dovecote count
    :raises PriceError: with every mistake
    """
    below = _shipped() if shipped else PriceBook()
    return below if path is None else merged(below, _read(path, OWN_LAYER))


@functools.cache
def _shipped() -> PriceBook:
    return _read(SHIPPED, 0)


def _read(path: Path, layer: int) -> PriceBook:
    found, mistakes = read_book(read_file(path), layer=layer)
    if mistakes:
        raise PriceError(path, mistakes)
    return found


def read_file(path: Path) -> Any:
    """Return the document of a price file.

    :raises PriceError: when it cannot be read
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise PriceError(path, [Mistake("file", f"cannot be read ({error.strerror})")]) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PriceError(path, [Mistake("file", f"is not TOML: {error}")]) from None
