"""What messages may reach: public addresses over HTTPS, and what an operator allows beside them."""

import dataclasses
import ipaddress
from collections.abc import Iterable

from service.http.ssrf.addresses import METADATA, Address, Network, address_of, is_metadata, is_public, meant
from service.http.ssrf.url import Destination, Unreadable, read_host

HTTPS_PORTS = frozenset({443, 8443})
HTTP_PORTS = frozenset({80, 8080})
"""Ports that messages go to unless others are set; these only where http is allowed."""

_PRIVATE_NAMES = (".local", ".internal", ".home.arpa", ".localdomain")
"""Ends of names that stand for something in a private network only."""

_ALLOWING = ("webhook_allow", "allow_private_webhooks")


@dataclasses.dataclass(frozen=True, slots=True)
class Objection:
    """Why nothing is sent to a destination."""

    reason: str
    settings: tuple[str, ...] = ()
    """Those by which an operator can allow it; none when nothing does."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What messages may reach besides public addresses over HTTPS."""

    private: bool = False
    """Everything but what hands out credentials: on any port, over http, too."""
    http: bool = False
    ports: frozenset[int] = frozenset()
    """None of them: the usual ones."""
    hosts: frozenset[str] = frozenset()
    """Names that may lead to private addresses, in their normal form."""
    networks: tuple[Network, ...] = ()

    def objections(self, destination: Destination) -> list[Objection]:
        """Say everything against a destination that can be said before its name is looked up."""
        found: list[Objection] = []
        if destination.scheme == "http" and not (self.http or self.private):
            found.append(Objection("http lets others read the message: https is wanted", ("allow_http_webhooks",)))
        ports = self._ports()
        if ports and destination.port not in ports:
            allowed = ", ".join(map(str, sorted(ports)))
            reason = f"port {destination.port} is not one that messages go to ({allowed})"
            found.append(Objection(reason, ("webhook_ports",)))
        if destination.address is not None:
            against = self.objection_to(destination.address, destination.host)
        else:
            against = self._objection_to_name(destination.host)
        return found if against is None else [*found, against]

    def objection_to(self, address: Address, host: str) -> Objection | None:
        """Say what is against an address that a host is or leads to."""
        where = host if host == str(address) else f"{host} leads to {address}, which"
        if is_metadata(address):
            return Objection(f"{where} is not a public address: clouds hand out credentials there")
        if self.private or is_public(address) or host in self.hosts:
            return None
        if any(meant(address) in network for network in self.networks):
            return None
        return Objection(f"{where} is not a public address", _ALLOWING)

    def _objection_to_name(self, host: str) -> Objection | None:
        """Refuse early what can only lead to private addresses, unless some are allowed: then they decide."""
        if self.private or self.networks or host in self.hosts:
            return None
        if host == "localhost" or host.endswith(".localhost"):
            return Objection(f"{host} is this machine", _ALLOWING)
        if "." not in host or host.endswith(_PRIVATE_NAMES):
            return Objection(f"{host} is a name in a private network", _ALLOWING)
        return None

    def _ports(self) -> frozenset[int]:
        """Give the ports that messages may go to; an empty set stands for all."""
        if self.ports or self.private:
            return self.ports
        return HTTPS_PORTS | HTTP_PORTS if self.http else HTTPS_PORTS


def read_allowed(entry: str) -> Network | str:
    """Read what an operator allows: a network, an address, or the name of a host.

    :raises Unreadable: when it is none of them, or would allow nothing
    """
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return _read_allowed_name(entry)
    if "%" in entry:
        raise Unreadable("an address with a zone means something on one machine only: leave the zone out")
    if "/" in entry and str(network.network_address) != str(address_of(entry.partition("/")[0])):
        raise Unreadable("the address of a network ends where its prefix does: 10.1.0.0/16, not 10.1.2.3/16")
    if network.num_addresses == 1 and network.network_address in METADATA:
        raise Unreadable("clouds hand out credentials there: it is never allowed")
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


def rules_of(allowed: Iterable[str], *, private: bool, http: bool, ports: Iterable[int]) -> Rules:
    """Make the rules that an operator has set.

    :raises Unreadable: see :func:`read_allowed`
    """
    entries = [read_allowed(each) for each in allowed]
    return Rules(
        private=private,
        http=http,
        ports=frozenset(ports),
        hosts=frozenset(each for each in entries if isinstance(each, str)),
        networks=tuple(each for each in entries if not isinstance(each, str)),
    )
