"""The files that jobs of the sandbox make: a film of three seconds, a picture, sounds, and the smallest model."""

from pathlib import Path
from typing import Final

_MEDIA: Final = Path(__file__).parent / "media"

FILES: Final[dict[str, tuple[str, bytes]]] = {
    "mp4": ("video/mp4", (_MEDIA / "dove.mp4").read_bytes()),
    "png": ("image/png", (_MEDIA / "dove.png").read_bytes()),
    "wav": ("audio/wav", (_MEDIA / "dove.wav").read_bytes()),
    "mp3": ("audio/mpeg", (_MEDIA / "dove.mp3").read_bytes()),
    "glb": ("model/gltf-binary", b'glTF\x02\0\0\0\x30\0\0\0\x1c\0\0\0JSON{"asset":{"version":"2.0"}} '),
}
"""The type and content of a file, by its extension."""
