"""The smallest contents that pass for a file of their kind: an empty MP4 or GLB, one transparent pixel, an MP3 tag without sound."""

import base64
from typing import Final

FILES: Final[dict[str, tuple[str, bytes]]] = {
    "mp4": ("video/mp4", b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp41\x00\x00\x00\x08mdat"),
    "png": (
        "image/png",
        base64.b64decode(
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
        ),
    ),
    "wav": ("audio/wav", b"RIFF\x24\x00\x00\x00WAVEfmt "),
    "mp3": ("audio/mpeg", b"ID3\x04\x00\x00\x00\x00\x00\x00"),
    "glb": ("model/gltf-binary", b'glTF\x02\0\0\0\x30\0\0\0\x1c\0\0\0JSON{"asset":{"version":"2.0"}} '),
}
"""The type and content of a file, by its extension."""
