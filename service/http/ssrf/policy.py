"""The rules for destinations of messages: public addresses over HTTPS, and what an operator allows besides."""

import dataclasses
import functools
import ipaddress

from service.http.ssrf.addresses import METADATA, Address, Network, address_of, is_metadata, is_public, meant
from service.http.ssrf.url import Destination, Unreadable, read_host

HTTPS_PORTS = frozenset({443, 8443})
HTTP_PORTS = frozenset({80, 8080})
"""The default ports. Those of http apply only when http is allowed."""
UNPRIVILEGED = 1024
"""The first port that a server can listen on without privileges."""

_PRIVATE_NAMES = (".local", ".internal", ".home.arpa", ".localdomain")
"""Suffixes of names that exist in private networks only."""

_ALLOWING = ("webhook_allow", "allow_private_webhooks")


@dataclasses.dataclass(frozen=True, slots=True)
class Objection:
    """A reason why no message is sent to a destination."""

    reason: str
    settings: tuple[str, ...] = ()
    """The settings that would allow it; empty when none does."""
    detail: str = ""
    """Text for the operator only: the private address that a name resolves to."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Addresses and schemes that are allowed besides public addresses over HTTPS."""

    private: bool = False
    """Allow every address except those of clouds' credentials, on every port, also over http."""
    http: bool = False
    ports: frozenset[int] = frozenset()
    """Empty: the default ports."""
    unprivileged: bool = False
    """Allow every port from :data:`UNPRIVILEGED` on besides ``ports``."""
    hosts: frozenset[str] = frozenset()
    """Names that may resolve to private addresses, in their normal form."""
    networks: tuple[Network, ...] = ()

    def objections(self, destination: Destination) -> list[Objection]:
        """Return every objection to a destination that is known before its name is resolved."""
        found: list[Objection] = []
        if destination.scheme == "http" and not (self.http or self.private):
            found.append(Objection("http is not encrypted: https is wanted", ("allow_http_webhooks",)))
        against_port = self._objection_to_port(destination.port)
        if against_port is not None:
            found.append(against_port)
        if destination.address is not None:
            against = self.objection_to(destination.address, destination.host)
        else:
            against = self._objection_to_name(destination.host)
        return found if against is None else [*found, against]

    def objection_to(self, address: Address, host: str) -> Objection | None:
        """Return the objection to an address that a host is or resolves to."""
        literal = host == str(address)
        reason = f"{host} is not a public address" if literal else f"{host} does not lead to a public address"
        detail = "" if literal else f"{host} resolves to {address}"
        if is_metadata(address):
            return Objection(f"{reason}: clouds serve credentials there" if literal else reason, detail=detail)
        if self.private or is_public(address) or host in self.hosts:
            return None
        if any(meant(address) in network for network in self.networks):
            return None
        return Objection(reason, _ALLOWING, detail)

    def _objection_to_name(self, host: str) -> Objection | None:
        """Return an objection to a name that can only be private. When private networks are allowed, its addresses decide."""
        if self.private or self.networks or host in self.hosts:
            return None
        if host == "localhost" or host.endswith(".localhost"):
            return Objection(f"{host} is this machine", _ALLOWING)
        if "." not in host or host.endswith(_PRIVATE_NAMES):
            return Objection(f"{host} is a name in a private network", _ALLOWING)
        return None

    def _objection_to_port(self, port: int) -> Objection | None:
        ports = self._ports()
        if not ports or port in ports:
            return None
        allowed = ", ".join(map(str, sorted(ports)))
        if not self.unprivileged:
            return Objection(f"port {port} is not allowed for messages (allowed: {allowed})", ("webhook_ports",))
        if port >= UNPRIVILEGED:
            return None
        return Objection(f"port {port} is not allowed (allowed: {allowed}, and those from {UNPRIVILEGED} on)")

    def _ports(self) -> frozenset[int]:
        """Return the allowed ports; an empty set means all ports."""
        if self.ports or self.private:
            return self.ports
        return HTTPS_PORTS | HTTP_PORTS if self.http else HTTPS_PORTS


def read_allowed(entry: str) -> Network | str:
    """Parse an entry of ``webhook_allow``: a network, an address, or the name of a host.

    :raises Unreadable: for any other text, and for one that would allow nothing
    """
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return _read_allowed_name(entry)
    if "%" in entry:
        raise Unreadable("an address with a zone is valid on one machine only: omit the zone")
    if "/" in entry and str(network.network_address) != str(address_of(entry.partition("/")[0])):
        raise Unreadable("the network has host bits set: write 10.1.0.0/16, not 10.1.2.3/16")
    if network.num_addresses == 1 and network.network_address in METADATA:
        raise Unreadable("clouds serve credentials at this address: it is never allowed")
    if meant(network.network_address) != network.network_address:
        raise Unreadable("an IPv4 address within an IPv6 address: write the IPv4 address")
    return network


def _read_allowed_name(entry: str) -> str:
    try:
        name, address = read_host(entry)
    except Unreadable:
        name, address = "", None
    if not name or address is not None:
        raise Unreadable("neither a network (10.1.0.0/16), nor an address, nor the full name of a host, without a port")
    return name


@functools.lru_cache(maxsize=16)
def rules_of(
    allowed: tuple[str, ...], *, private: bool, http: bool, ports: tuple[int, ...], unprivileged: bool = False
) -> Rules:
    """Return the rules of the settings.

    :raises Unreadable: see :func:`read_allowed`
    """
    entries = [read_allowed(each) for each in allowed]
    return Rules(
        private=private,
        http=http,
        ports=frozenset(ports),
        unprivileged=unprivileged,
        hosts=frozenset(each for each in entries if isinstance(each, str)),
        networks=tuple(each for each in entries if not isinstance(each, str)),
    )
