"""
Whether a request may go somewhere: pure functions over what is asked for, what its name leads to, and an Egress.

They are asked twice: about each address that is asked for, also by a redirect, before anything is looked up, and about
what a name leads to, of which every answer must pass, before a connection is made to one of the answers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

from stabilize_nb.egress.addresses import Address, Network, Reach, literal, network_of, place_of
from stabilize_nb.errors import ConfigError, PermanentError

USUAL_PORTS: Final = {"http": 80, "https": 443}
#: Names of the services that give a machine in a cloud its credentials.
_METADATA: Final = frozenset({
    "instance-data", "instance-data.ec2.internal", "metadata", "metadata.azure.internal", "metadata.goog",
    "metadata.google.internal", "metadata.packet.net", "metadata.platformequinix.com", "metadata.tencentyun.com",
    "rancher-metadata",
})  # fmt: skip
_LOCAL: Final = ("localhost", "local", "internal", "localdomain", "home.arpa")
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
#: What to do where a private address is meant.
_HOW: Final = " (it is asked only where allow_private_urls of the stage or Egress(allow_private=True) allows it)"
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST_NAME: Final = 253
_HIGHEST_PORT: Final = 65_535


class EgressRefusedError(PermanentError):
    """A request may not go where it was to go; nothing was sent there."""

    page = "http.md"


class TooLargeError(PermanentError):
    """An answer is larger than it may be."""


class Target(NamedTuple):
    """What is asked for; `host` without brackets, `has_user`: whether a user or password stands before it."""

    scheme: str
    host: str
    port: int | None
    has_user: bool = False

    @property
    def origin(self) -> tuple[str, str, int | None]:
        """What credentials belong to."""
        return self.scheme, self.host, self.port or USUAL_PORTS.get(self.scheme)


class Verdict(NamedTuple):
    """Whether a request may go on, and why, in words that end a sentence."""

    allowed: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class Egress:
    """
    Where requests of tasks may go: public addresses at the usual ports, unless more or less is said.

    `hosts`: where given, only these may be asked: names ("api.example.com"), names of everything below one
    ("*.example.com"), addresses and networks ("10.1.0.0/16"). An address that is listed itself, or by its network, may
    be private; one that a listed name leads to may not. `allow_private`: whether this machine and private networks may
    be asked. `ports`: those that may be asked, or "any"; None: 80 and 443, and at private addresses that may be asked
    any. `proxies`: whether the proxies that the environment names are used; what a proxy then connects to nobody here
    can check.

    Services that hold the credentials of machines in a cloud are refused in every case.

    Raises ConfigError for a host or port that is none.
    """

    hosts: Collection[Any] | None = None
    allow_private: bool = False
    ports: Collection[Any] | None = None
    proxies: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.hosts, str):
            raise ConfigError(f"hosts is {self.hosts!r}; a list of names and networks is expected")
        for entry in self.hosts or ():
            if not isinstance(entry, str) or (
                network_of(entry) is None and not _NAME.fullmatch(_folded(entry).removeprefix("*."))
            ):
                raise ConfigError(f"hosts has {entry!r}; a name, *.name, an address or a network is expected")
        for port in () if self.ports == "any" else self.ports or ():
            if isinstance(port, bool) or not isinstance(port, int) or not 0 < port <= _HIGHEST_PORT:
                raise ConfigError(f"ports has {port!r}; a number from 1 to {_HIGHEST_PORT} is expected")

    @cached_property
    def _networks(self) -> list[Network]:
        return [network for entry in self.hosts or () if (network := network_of(entry)) is not None]

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(_folded(entry) for entry in self.hosts or () if network_of(entry) is None)

    def names(self, host: str) -> bool:
        """Whether a name is listed, or stands below one that is."""
        labels = host.split(".")
        above = ("*." + ".".join(labels[at:]) for at in range(1, len(labels)))
        return host in self._names or not self._names.isdisjoint(above)

    def holds(self, address: Address) -> bool:
        """Whether an address is listed, by itself or by its network."""
        return any(address in network for network in self._networks)


def judge(target: Target, egress: Egress) -> Verdict:
    """Decide about what is asked for, before its name is looked up."""
    if target.scheme not in USUAL_PORTS:
        return _no(f"only http and https are allowed, not {target.scheme or 'nothing'}")
    if target.has_user:
        return _no("a user or password in an address is sent along and written down: use auth or bearer_token")
    host, port = _folded(target.host), target.port if target.port is not None else USUAL_PORTS[target.scheme]
    if not 0 < port <= _HIGHEST_PORT:
        return _no(f"port {port} is none: they go from 1 to {_HIGHEST_PORT}")
    if (address := literal(host)) is not None:
        return judge_addresses(host, port, [address], egress)
    if host in _METADATA:
        return _no(f"{host} is a service that holds the credentials of machines")
    if not _NAME.fullmatch(host) or len(host) > _LONGEST_NAME:
        return _no(f"{target.host!r} is not the name of a host")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return _no(f"{host} is an address in disguise: write it as four numbers")
    if not egress.allow_private and any(host == name or host.endswith(f".{name}") for name in _LOCAL):
        if not egress.names(host):
            return _no(f"{host} is a name inside this machine or network{_HOW}")
    elif egress.hosts is not None and not (egress.names(host) or egress._networks):  # noqa: SLF001 - its own module
        return _no(f"{host} is not among the allowed hosts")
    has_private = egress.allow_private or bool(egress._networks)  # noqa: SLF001 - its own module
    return _port(port, egress, is_private=has_private) or Verdict(allowed=True, why="")


def judge_addresses(host: str, port: int, addresses: Sequence[Address], egress: Egress) -> Verdict:
    """Decide about what a name leads to: one address that may not be asked is enough to refuse."""
    host = _folded(host)
    if not addresses:
        return _no(f"{host} has no address")
    listed = egress.hosts is None or egress.names(host)
    places = [place_of(address) for address in addresses]
    for address, place in zip(addresses, places, strict=True):
        holds = egress.holds(address)
        if place.reach is Reach.NEVER or (place.reach is Reach.PRIVATE and not (egress.allow_private or holds)):
            return _no(f"{_leads(host, address)} {place.words}" + (_HOW if place.reach is Reach.PRIVATE else ""))
        if not (listed or holds):
            return _no(f"{_leads(host, address)} not among the allowed hosts")
        if (refusal := _port(port, egress, is_private=place.reach is Reach.PRIVATE)) is not None:
            return refusal
    return Verdict(allowed=True, why=f"{_leads(host, addresses[0])} {places[0].words}")


def _port(port: int, egress: Egress, *, is_private: bool) -> Verdict | None:
    """Return the refusal of a port; None when it is allowed."""
    allowed = egress.ports if egress.ports is not None else tuple(USUAL_PORTS.values())
    if allowed == "any" or port in allowed or (egress.ports is None and is_private):
        return None
    return _no(f"port {port} is not among the allowed ports ({', '.join(map(str, allowed)) or 'none'})")


def _leads(host: str, address: Address) -> str:
    return f"{host} is" if literal(host) == address else f"{host} leads to {address}, which is"


def _folded(host: str) -> str:
    return host.lower().removesuffix(".")


def _no(why: str) -> Verdict:
    return Verdict(allowed=False, why=why)


def in_turns(addresses: Iterable[Address]) -> list[Address]:
    """Return addresses with the two kinds in turns (RFC 8305), for one kind may not be reached from here."""
    found = list(dict.fromkeys(addresses))
    first = [address for address in found if address.version == found[0].version]
    other = [address for address in found if address.version != found[0].version]
    pairs = [each for pair in zip(first, other, strict=False) for each in pair]
    return pairs + [address for address in found if address not in pairs]
