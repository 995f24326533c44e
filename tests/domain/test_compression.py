"""Unpacking by the first bytes and by name, in several layers, and never beyond the limit."""

import sys
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.compression import TooLarge, unpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b'{"code":1,"result":"1700000000000001"}'


def deflated(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": deflated(TEXT, 31),
    "deflate": deflated(TEXT, 15),
    "raw deflate": deflated(TEXT, -15),
    "br": brotli.compress(TEXT),
    "zstd": zstd.compress(TEXT),
}


@pytest.mark.parametrize(
    ("packed", "codings"),
    [
        ("gzip", ["gzip"]),
        ("gzip", []),
        ("gzip", ["br"]),
        ("gzip", ["X-GZIP"]),
        ("gzip", ["identity"]),
        ("deflate", ["deflate"]),
        ("deflate", []),
        ("raw deflate", ["deflate"]),
        ("br", ["br"]),
        ("br", [" Br "]),
        ("zstd", ["zstd"]),
        ("zstd", []),
        ("zstd", ["gzip"]),
    ],
)
def test_packed_body_is_unpacked(packed: str, codings: list[str]) -> None:
    assert unpack(PACKED[packed], codings, 1000) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "unknown", "", "gzip, br"])
@pytest.mark.parametrize(
    "body", [b"", TEXT, b"nope", b"x\x9c and more", b"\x1f\x8b\x08broken", b"\x28\xb5\x2f\xfdbroken"]
)
def test_body_that_is_not_packed_is_returned_as_it_is(body: bytes, coding: str) -> None:
    assert unpack(body, [coding], 1000) == body


def test_layers_are_unpacked_one_after_the_other() -> None:
    assert unpack(deflated(PACKED["br"], 31), ["br, gzip"], 1000) == TEXT
    assert unpack(deflated(PACKED["gzip"], 31), ["gzip", "gzip"], 1000) == TEXT


@pytest.mark.parametrize("packed", ["gzip", "deflate"])
def test_cut_body_is_unpacked_as_far_as_possible(packed: str) -> None:
    unpacked = unpack(PACKED[packed][:-6], [], 1000)
    assert unpacked
    assert TEXT.startswith(unpacked)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("size", [1000, 1001, 10_000_000])
def test_body_larger_than_the_limit_is_refused(coding: str, size: int) -> None:
    data = bytes(size)
    packed = {
        "gzip": deflated(data, 31),
        "deflate": deflated(data, 15),
        "br": brotli.compress(data),
        "zstd": zstd.compress(data),
    }[coding]
    if size <= 1000:
        assert unpack(packed, [coding], 1000) == data
    else:
        with pytest.raises(TooLarge):
            unpack(packed, [coding], 1000)


@given(st.binary(max_size=300), st.lists(st.sampled_from(["gzip", "deflate", "br", "zstd", "x"]), max_size=3))
def test_no_bytes_raise_an_undeclared_error(body: bytes, codings: list[str]) -> None:
    unpack(body, codings, 10_000)
