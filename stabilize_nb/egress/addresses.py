"""
What an IP address is, and whether a request may go there: the registries of special addresses, as a table.

An IPv6 address that carries an IPv4 address (mapped, NAT64, 6to4, Teredo, ISATAP) is where that one leads, so both are
looked at. Link-local addresses are where clouds keep the credentials of a machine: they are refused in every case, and
so are the few other addresses of such services.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from stabilize_nb.errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Reach(Enum):
    """Who may be asked at an address."""

    PUBLIC = "public"  # anybody
    PRIVATE = "private"  # only where private addresses are allowed
    NEVER = "never"  # nobody


class Place(NamedTuple):
    """What an address is, in words that follow "is"."""

    reach: Reach
    words: str


class _Special(NamedTuple):
    network: Network
    place: Place


def _table(reach: Reach, rows: dict[str, str]) -> list[_Special]:
    return [_Special(ip_network(network), Place(reach, words)) for network, words in rows.items()]


#: The first row that holds an address says what it is.
_SPECIAL: Final = [
    *_table(Reach.NEVER, {
        "100.100.100.200/32": "where a cloud keeps the credentials of its machines (Alibaba)",
        "168.63.129.16/32": "where a cloud keeps the settings of its machines (Azure)",
        "192.0.0.192/32": "where a cloud keeps the credentials of its machines (Oracle)",
        "169.254.0.0/16": "a link-local address, where clouds keep the credentials of their machines",
        "fe80::/10": "a link-local address",
        "fd00:ec2::/32": "where a cloud keeps the credentials of its machines (AWS)",
        "fd20:ce::/32": "where a cloud keeps the credentials of its machines (Google)",
        "fd00:42::/32": "where a cloud keeps the credentials of its machines (Scaleway)",
        "fd00:c1::/32": "where a cloud keeps the credentials of its machines (Oracle)",
        "0.0.0.0/8": "no address of one machine",
        "::/128": "no address of one machine",
        "224.0.0.0/4": "a multicast address",
        "ff00::/8": "a multicast address",
        "240.0.0.0/4": "a reserved address",
        "192.88.99.0/24": "a relay to other networks",
        "2001::/23": "an address of a protocol",
    }),
    *_table(Reach.PRIVATE, {
        "127.0.0.0/8": "this machine",
        "::1/128": "this machine",
        "10.0.0.0/8": "a private address",
        "172.16.0.0/12": "a private address",
        "192.168.0.0/16": "a private address",
        "100.64.0.0/10": "an address inside a provider's network",
        "192.0.0.0/24": "an address of a protocol",
        "192.0.2.0/24": "an address for documentation",
        "198.18.0.0/15": "an address for tests of networks",
        "198.51.100.0/24": "an address for documentation",
        "203.0.113.0/24": "an address for documentation",
        "fc00::/7": "a private address",
        "fec0::/10": "a private address",
        "2001:db8::/32": "an address for documentation",
        "3fff::/20": "an address for documentation",
        "5f00::/16": "an address inside a provider's network",
    }),
]  # fmt: skip
_GLOBAL: Final = ip_network("2000::/3")
#: Where an IPv4 address stands in an IPv6 address: how far its lowest bit is from the right.
_EMBEDDED: Final = [
    (ip_network("::ffff:0:0/96"), 0),  # mapped
    (ip_network("::ffff:0:0:0/96"), 0),  # translated
    (ip_network("::/96"), 0),  # compatible
    (ip_network("64:ff9b::/96"), 0),  # NAT64
    (ip_network("2002::/16"), 80),  # 6to4
]
_SAME: Final = _EMBEDDED[0][0], _EMBEDDED[3][0]  # a public IPv4 address in one of these is a public place
_TEREDO: Final = ip_network("2001::/32")
_LOCAL_NAT64: Final = ip_network("64:ff9b:1::/48")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


def place_of(address: Address) -> Place:
    """Return what an address is; of an IPv6 address that carries others, what the worst of them is."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return Place(Reach.NEVER, "an address of one network card")
        for inner in embedded(address):
            if (place := _listed(inner)) is not None:
                return Place(place.reach, f"{inner} in another form, {place.words}")
        if any(address in network for network in _SAME):
            return Place(Reach.PUBLIC, "a public address")
    return _listed(address) or Place(Reach.PUBLIC, "a public address")


def _listed(address: Address) -> Place | None:
    for network, place in _SPECIAL:
        if address in network:
            return place
    if address.version == 6 and address not in _GLOBAL:  # noqa: PLR2004 - of the protocol
        return Place(Reach.NEVER, "an address that belongs to nobody")
    return Place(Reach.NEVER, "a way into other networks") if _tunnels(address) else None


def _tunnels(address: Address) -> bool:
    return isinstance(address, IPv6Address) and (address in _EMBEDDED[4][0] or address in _LOCAL_NAT64)


def embedded(address: IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address carries."""
    bits = int(address)
    if bits <= 1:  # the addresses of nothing and of this machine
        return []
    found = [IPv4Address(bits >> shift & 0xFFFFFFFF) for network, shift in _EMBEDDED if address in network]
    if address in _TEREDO:
        found += [IPv4Address(bits >> 64 & 0xFFFFFFFF), IPv4Address(~bits & 0xFFFFFFFF)]
    if bits >> 32 & 0xFFFFFFFF in _ISATAP:
        found.append(IPv4Address(bits & 0xFFFFFFFF))
    return found


def literal(host: str) -> Address | None:
    """Return the address that a host is; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def network_of(text: str) -> Network | None:
    """Return the network that an entry of a list is; None for a name. Raises ConfigError for half a network."""
    try:
        return ip_network(text)
    except ValueError as error:
        if "/" in text:
            raise ConfigError(f"{text!r} is not a network such as 10.1.0.0/16: {error}") from None
        return None
