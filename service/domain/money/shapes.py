"""Sizes of pictures and videos, and the quantities that follow from them."""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

from service.domain.money.rules import Purchase, quantity_of

SIZES: Final = {
    "480p": (864, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "2k": (2560, 1440),
    "4k": (3840, 2160),
}
"""Width and height of a video of 16:9, by its resolution. Other shapes have about as many pixels."""
FRAMES: Final = 24
"""Frames of a second."""
TOKEN: Final = 1024
"""Pixels of a token of a video."""
MILLION: Final = Decimal(1_000_000)
_BINARY: Final = Decimal(1024 * 1024)
_SIZE: Final = re.compile(r"([1-9][0-9]{1,4})\s*[x*×:]\s*([1-9][0-9]{1,4})")


def video_tokens(resolution: str, seconds: Decimal) -> Decimal | None:
    """Return the tokens of a video: width × height × (frames a second × seconds + 1) / 1024."""
    size = SIZES.get(resolution)
    if size is None:
        return None
    frames = FRAMES * seconds + 1
    return (Decimal(size[0] * size[1]) * frames / TOKEN).to_integral_value(ROUND_CEILING)


def megapixels(purchase: Purchase) -> tuple[Decimal, Decimal] | None:
    """Return the begun megapixels of a picture, at least and at most; None where its size is not known.

    Some providers count 1024 × 1024 pixels, and others a million.
    """
    width, height = (quantity_of(purchase.fields.get(name)) for name in ("width", "height"))
    if width is None or height is None:
        stated = _SIZE.fullmatch(str(purchase.value(("size", "resolution")) or "").lower())
        if stated is None:
            return None
        width, height = Decimal(stated[1]), Decimal(stated[2])
    low, high = (
        max((width * height / each).to_integral_value(ROUND_CEILING), Decimal(1)) for each in (_BINARY, MILLION)
    )
    return low, high
