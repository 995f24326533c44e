"""Decide which addresses are public. The tables are our own: those of Python differ by version and ignore embedded addresses."""

import ipaddress
from collections.abc import Iterator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

METADATA = frozenset(
    ipaddress.ip_address(each)
    for each in (
        "169.254.169.254",  # nearly every cloud
        "169.254.169.253",  # AWS: its resolver
        "169.254.169.123",  # AWS: its clock
        "169.254.170.2",  # AWS: credentials of containers (ECS)
        "169.254.170.23",  # AWS: credentials of pods (EKS)
        "168.63.129.16",  # Azure: the host's agent, at an address that looks public
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle, the first generation
        "fd00:ec2::254",  # AWS
        "fd00:ec2::253",
        "fd00:ec2::123",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
    )
)
"""Addresses at which clouds serve credentials to every caller in their network. Messages never go there."""

_SPECIAL_IPV4 = tuple(
    ipaddress.IPv4Network(each)
    for each in (
        "0.0.0.0/8",  # this network; 0.0.0.0 connects to this machine
        "10.0.0.0/8",
        "100.64.0.0/10",  # between providers and their customers (CGNAT)
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",  # link-local
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""The range that IANA assigns. Loopback, link-local, unique local, multicast and reserved addresses lie outside."""
_SPECIAL_IPV6 = tuple(
    ipaddress.IPv6Network(each)
    for each in (
        "2001::/23",  # protocols, among them Teredo (2001::/32), benchmarks and ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3ffe::/16",  # the former 6bone
        "3fff::/20",  # documentation
    )
)
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_LOW_32 = 0xFFFFFFFF
_ISATAP = 0x00005EFE
_ISATAP_MASK = 0xFDFFFFFF  # without the bit for uniqueness


def address_of(text: str) -> Address:
    """Parse an address as a socket does: a zone (``%eth0``) is ignored.

    :raises ValueError: when it is no address
    """
    return ipaddress.ip_address(text.partition("%")[0])


def meant(address: Address) -> Address:
    """Return the address that is reached: the IPv4 address in a mapped or NAT64 address, or the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return _last_32(address)
    return address


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the public internet. Tunnel addresses do not, because no server uses them."""
    address = meant(address)
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    if address not in _GLOBAL_UNICAST or any(address in network for network in _SPECIAL_IPV6):
        return False
    return not _is_isatap(address)


def is_metadata(address: Address) -> bool:
    """Return whether an address is, or contains, one of :data:`METADATA`."""
    return address in METADATA or any(each in METADATA for each in _within(address))


def _within(address: Address) -> Iterator[ipaddress.IPv4Address]:
    """Yield the IPv4 addresses that an IPv6 address may contain."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if _is_isatap(address) or any(address in each for each in (_COMPATIBLE, _TRANSLATED, _NAT64, _LOCAL_NAT64)):
        yield _last_32(address)
    if address in _LOCAL_NAT64:  # RFC 6052 splits it in two behind a prefix of 48 bits
        yield ipaddress.IPv4Address((int(address) >> 64 & 0xFFFF) << 16 | int(address) >> 40 & 0xFFFF)


def _last_32(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & _LOW_32)


def _is_isatap(address: ipaddress.IPv6Address) -> bool:
    return (int(address) >> 32 & _ISATAP_MASK) == _ISATAP
