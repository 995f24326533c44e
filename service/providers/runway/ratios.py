"""The sizes that the models at Runway make (Runway's SDK 5.24), and which of them a client's shape means."""

import itertools
import math
from collections.abc import Mapping, Sequence

_SIMILAR = 0.06
"""How far the shape of a size may be from the wanted one: 1536:672 is called 21:9, and 1184:864 is called 4:3."""
_SEVEN_TO_THREE = "7:3"

_GEMINI = "1344:768 768:1344 1024:1024 1184:864 864:1184 1536:672 832:1248 1248:832 896:1152 1152:896"
_FLASH_LITE = "1024:1024 848:1264 1264:848 896:1200 1200:896 928:1152 1152:928 768:1376 1376:768 1584:672"
_IMAGES = {
    "gpt_image": "2048:880 1920:1088 1920:1280 1920:1440 1920:1536 1920:1920 1536:1920 1440:1920 1280:1920 1088:1920",
    "gemini_image3.1_flash_lite": _FLASH_LITE,
    "gemini_image3.1_flash": f"{_GEMINI} 512:2048 2048:512",
    "gemini": _GEMINI,
    "nano_banana": _FLASH_LITE,
    "bria_fibo": "1024:1024 768:1152 1152:768 768:1024 1024:768 768:960 960:768 576:1024 1024:576",
    "grok_imagine_image": "1024:1024 1280:720 720:1280 1152:864 864:1152 1248:832 832:1248 1280:576 576:1280 1408:704 704:1408",
    "ideogram_4_0": "2048:2048 2560:1440 1440:2560 2304:1728 1728:2304 2496:1664 1664:2496 3072:1280 1280:3072",
    "ideogram": "1024:1024 1280:720 720:1280 1152:864 864:1152 1248:832 832:1248 1120:896 896:1120 1440:720 720:1440",
    "muse_image": "2352:1008 2016:1152 1920:1280 1792:1344 1600:1600 1344:1792 1280:1920 1152:2016",
    "recraft_v4_1_vector": "1024:1024 1216:896 896:1216 1344:768 768:1344",
    "recraft": "1024:1024 1536:768 768:1536 1280:832 832:1280 1216:896 896:1216 1152:896 896:1152 1280:896 896:1280 1344:768 768:1344",
    "seedream5_flash": "1024:1024 1184:896 896:1184 1376:768 768:1376 1248:832 832:1248 1568:672",
    "seedream5_pro": "1024:1024 1184:896 896:1184 1376:768 768:1376 1296:864 864:1296",
    "seedream5": "2048:2048 2304:1728 1728:2304 2848:1600 1600:2848 2496:1664 1664:2496 3136:1344",
}
_KLING = {
    f"{name}_{tier}": sizes
    for name, (tier, sizes) in itertools.product(
        ("klingO3", "kling3.0"),
        {
            "standard": "1280:720 720:1280 960:960",
            "pro": "1920:1080 1080:1920 1440:1440",
            "4k": "3840:2160 2160:3840 2880:2880",
        }.items(),
    )
}
_SHAPES = "21:9 16:9 4:3 1:1 3:4 9:16"
_VIDEOS = {
    **_KLING,
    "kling2.5": "1280:720 720:1280 720:720",
    "kling_4": "1280:720 720:1280 940:940 1460:624",
    "hailuo3": _SHAPES,
    "grok_imagine_1_5_lite": "1280:720 720:1280 720:720 960:720 720:960 1088:720 720:1088",
    "grok_imagine_1_5": "1:1 16:9 9:16 4:3 3:4 3:2 2:3",
    "seedance2": "1280:720 720:1280 960:960 1112:834 834:1112 1470:630",
    "happyhorse": "1280:720 720:1280 960:960 1108:832 832:1108",
    "gemini_omni": "1280:720 720:1280",
    "wan3": "1280:720 720:1280 960:960 1104:832 832:1104",
}
_SIZES: Mapping[str, Mapping[str, str]] = {
    "text_to_image": _IMAGES,
    "text_to_video": _VIDEOS,
    "image_to_video": _VIDEOS,
    "video_to_video": _VIDEOS,
}
"""One size for each shape, in the cheapest class, by operation and prefix of the model: the first that fits counts."""
_REQUIRED = {"text_to_image": tuple(_IMAGES), "text_to_video": tuple(_KLING)}
"""The models that refuse a request without a ratio."""


def requires_ratio(operation: str, model: str) -> bool:
    """Return whether a model of another vendor refuses a request without a ratio."""
    return model.startswith(_REQUIRED.get(operation, ()))


def fitting(operation: str, model: str, ratio: str) -> str | None:
    """Return a shape in the form that a model of another vendor takes; None where its sizes are not known.

    A size of its own, such as ``2560:1440``, stays as it is. So does a shape that the model does not make: Runway refuses it.
    """
    sizes = _SIZES.get(operation, {})
    known = next((sizes[prefix] for prefix in sizes if model.startswith(prefix)), None)
    return None if known is None else _nearest(ratio, known.split())


def _nearest(ratio: str, sizes: Sequence[str]) -> str:
    if ratio in sizes or (is_size(ratio) and any(map(is_size, sizes))):
        return ratio
    wanted = aspect(ratio)
    best = min(sizes, key=lambda size: abs(math.log(aspect(size) / wanted)))
    return best if abs(math.log(aspect(best) / wanted)) <= _SIMILAR else ratio


def is_size(ratio: str) -> bool:
    """Return whether a ratio is a size in pixels, and not a shape."""
    return min(_sides(ratio)) > 100  # noqa: PLR2004 - no shape has such a side


def aspect(ratio: str) -> float:
    """Return the width of a ratio by its height."""
    width, height = _sides(ratio)
    return width / height


def reduced(ratio: str) -> str:
    """Return the shape of a ratio in lowest terms, but ``21:9`` as it is always written."""
    width, height = _sides(ratio)
    divisor = math.gcd(width, height)
    found = f"{width // divisor}:{height // divisor}"
    return "21:9" if found == _SEVEN_TO_THREE else found


def _sides(ratio: str) -> tuple[int, int]:
    width, _, height = ratio.partition(":")
    return int(width), int(height)
