"""Public addresses are distinguished from all others, in every spelling."""

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.http.ssrf.addresses import METADATA, address_of, is_metadata, is_public, meant

PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.215.14 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
    169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255
    198.20.0.0 223.255.255.255
    2606:4700::1111 2a00::1 2001:4860:4860::8888 2001:200::1 2400:cb00::1 3ffd::1
    ::ffff:1.1.1.1 64:ff9b::1.1.1.1
""".split()  # noqa: SIM905 - a table
PRIVATE = """
    0.0.0.0 0.1.2.3 10.0.0.0 10.1.2.3 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.8.8.8 127.255.255.255
    169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1
    192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1
    255.255.255.255 100.100.100.200 168.63.129.16
    :: ::1 ::2 ::10.0.0.1 ::1.1.1.1 ::ffff:10.0.0.1 ::ffff:7f00:1 ::ffff:0:10.0.0.1 ::ffff:0:1.1.1.1
    64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 64:ff9b:1::1.1.1.1 64:ff9c::1
    100::1 1fff::1 2001::1 2001:0:0:0:0:0:f5ff:fffe 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:101:101:: 2002:a00:1::
    3ffe::1 3fff::1 3fff:fff::1 4000::1 5f00::1 2606:4700::5efe:10.0.0.1 2606:4700::200:5efe:10.0.0.1
    fc00::1 fd12::1 fd00:ec2::254 fe80::1 fe80::1%eth0 febf::1 fec0::1 ff02::1 ff0e::1
""".split()  # noqa: SIM905 - a table


@pytest.mark.parametrize(
    ("address", "public"), [*((each, True) for each in PUBLIC), *((each, False) for each in PRIVATE)]
)
def test_is_public_classifies_addresses(address: str, public: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_public(address_of(address)) is public


@pytest.mark.parametrize("text", ["", "127.1", "0x7f000001", "localhost", "1.1.1.1/32", "010.0.0.1", "[::1]", "::1]"])
def test_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        address_of(text)


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(ADDRESSES)
@example(address_of("2001:1::1"))
@example(address_of("192.88.99.1"))
def test_address_that_python_calls_private_is_not_public(address: ipaddress.IPv4Address) -> None:
    """Python's tables change with its version and have gaps. Ours never allow more than today's."""
    if is_public(address):
        assert meant(address).is_global
        assert not meant(address).is_multicast


@given(st.ip_addresses(v=4))
@example(ipaddress.IPv4Address("127.0.0.1"))
@example(ipaddress.IPv4Address("1.1.1.1"))
def test_embedded_private_address_is_not_public(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    same = [f"::ffff:{address}", f"64:ff9b::{address}"]
    tunnels = [f"::{address}", f"::ffff:0:{address}", f"64:ff9b:1::{address}", f"2a00::5efe:{address}"]
    tunnels += [str(ipaddress.IPv6Address(0x2002 << 112 | number << 80))]
    tunnels += [str(ipaddress.IPv6Address(0x20010000 << 96 | number ^ 0xFFFFFFFF))]
    assert {is_public(address_of(each)) for each in same} == {is_public(address)}
    assert not any(is_public(address_of(each)) for each in tunnels)


def test_metadata_address_is_recognised_in_every_form() -> None:
    documented = """
        169.254.169.254 169.254.169.253 169.254.169.123 169.254.170.2 169.254.170.23 168.63.129.16 100.100.100.200
        192.0.0.192 fd00:ec2::254 fd00:ec2::253 fd00:ec2::123 fd00:ec2::23 fd20:ce::254 fd00:42::42
    """
    assert {address_of(each) for each in documented.split()} == METADATA
    for address in METADATA:
        assert is_metadata(address)
        assert not is_public(address)
    disguises = """
        ::ffff:169.254.169.254 ::169.254.169.254 ::ffff:0:169.254.169.254 64:ff9b::a9fe:a9fe 64:ff9b:1::a9fe:a9fe
        64:ff9b:1:a9fe:a9:fe00:: 2002:a9fe:a9fe::1 2001:0:0:0:0:0:5601:5601 2001:0:a9fe:a9fe::1 2a00::5efe:a9fe:a9fe
        64:ff9b::168.63.129.16
    """
    assert {each: is_metadata(address_of(each)) for each in disguises.split()} == dict.fromkeys(disguises.split(), True)
    assert is_metadata(address_of("fd00:ec2::254%eth0"))
    assert not is_metadata(address_of("169.254.169.1"))
    assert not is_metadata(address_of("fd00::1"))
