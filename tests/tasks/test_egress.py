"""
Where requests may go: hostile URLs, redirects and names that change, with every connection of the process watched.

The watching is an audit hook, which sees what any code asks of any socket. What may be connected is judged a second
time by ssrfguard, written by others.
"""

import asyncio
import random
import socket
import ssl
import sys
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import quote

import httpcore2
import httpx2
import pytest
from ssrfguard import Policy
from ssrfguard.errors import SSRFGuardError

from stabilize_nb import Egress, EgressRefusedError, guarded_client
from stabilize_nb.egress import network
from stabilize_nb.egress.addresses import _SPECIAL, Reach, literal, place_of
from stabilize_nb.egress.client import target_of
from stabilize_nb.egress.inflate import PIECE, Unpacking
from stabilize_nb.egress.policy import Target, judge, judge_addresses
from stabilize_nb.errors import ConfigError
from stabilize_nb.llm import LLMClient
from tests.tasks.dns_server import NameServer
from tests.tasks.hostile_urls import HONEST, HOSTILE, NAMES, PUBLIC
from tests.tasks.http_server import Server, authority


@dataclass
class Watch:
    """What is connected while it is watched, and the ports that answer."""

    made: list[tuple[str, int]] | None = None
    answering: frozenset[int] = frozenset()


_now = Watch()


def _watch(event, arguments):
    """Note connections while they are watched, and let none leave for where no server of the test is."""
    if event != "socket.connect" or _now.made is None or arguments[0].family == socket.AF_UNIX:
        return
    host, port = arguments[1][:2]
    _now.made.append((host, port))
    if port not in _now.answering:
        raise ConnectionRefusedError("nobody answers here")


sys.addaudithook(_watch)


@contextmanager
def connections(*servers):
    """Yield the list of what is connected from now on; only these servers can be."""
    _now.made, _now.answering = [], frozenset(server.server_port for server in servers)
    try:
        yield _now.made
    finally:
        _now.made = None


async def asked(client, url):
    """Return the name of what a request came to."""
    try:
        return (await client.get(url)).text
    except (EgressRefusedError, httpx2.HTTPError, httpx2.InvalidURL) as error:
        return type(error).__name__


def ask_all(urls, egress=None, **settings):
    async def work():
        async with guarded_client(egress, **settings) as client:
            return [await asked(client, url) for url in urls]

    return asyncio.run(work())


def may_be_asked(address):
    """Return what the oracle says of an address."""
    return Policy().permits_address(address)


# -- URLs -----------------------------------------------------------------------------------------


def test_hostile_urls_connect_nothing_and_honest_ones_their_addresses(monkeypatch):
    """71 hostile URLs: no connection at all. Honest ones: connections to what their names lead to."""
    with NameServer({name: [found] for name, found in NAMES.items()}) as names:
        monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
        with connections() as refused:
            ended = ask_all(HOSTILE)
        with connections() as made:
            reached = ask_all(HONEST)

    assert len(HOSTILE) == 71
    assert set(ended) <= {"EgressRefusedError", "InvalidURL", "UnsupportedProtocol"}
    assert refused == []
    assert set(reached) == {"ConnectError"}
    assert len(made) >= len(HONEST)
    assert all(may_be_asked(host) for host, _ in made)


def ours(url):
    target = target_of(httpx2.URL(url))
    verdict = judge(target, Egress())
    if verdict.allowed and literal(target.host) is None:
        leads_to = [ip_address(each) for each in NAMES.get(target.host.lower().removesuffix("."), [])]
        verdict = judge_addresses(target.host, target.port or 80, leads_to, Egress())
    return verdict.allowed


def theirs(url):
    target = Policy().check_url(url)
    leads_to = [] if target.is_literal_address else NAMES.get(target.host.removesuffix("."), ["0.0.0.0"])
    return all(map(may_be_asked, leads_to))


def allows(judge_of, url):
    try:
        return judge_of(url)
    except (SSRFGuardError, httpx2.InvalidURL):
        return False


#: What this guard refuses and ssrfguard does not; there is nothing the other way round.
STRICTER_URLS = {
    "http://168.63.129.16/",  # a public block of Azure, which only answers the machines of Azure, with their settings
    "http://[::ffff:0:127.0.0.1]/",  # IPv4 translated (RFC 2765); a gateway makes it the loopback address
}


def test_urls_are_judged_as_the_oracle_judges_them():
    """Two guards agree on all but the URLs named here."""
    differ = {url for url in HOSTILE + HONEST if allows(ours, url) != allows(theirs, url)}

    assert differ == STRICTER_URLS
    assert not any(allows(ours, url) for url in HOSTILE)
    assert all(allows(ours, url) for url in HONEST)


def corners():
    """Return the ends of all special networks, the same inside IPv6, and addresses at random."""
    dice = random.Random(8)
    found = [IPv4Address(dice.getrandbits(32)) for _ in range(5_000)]
    for special, _ in _SPECIAL:
        low, high = int(special.network_address), int(special.broadcast_address)
        kind, top = (IPv4Address, 2**32) if special.version == 4 else (IPv6Address, 2**128)
        found += [kind(at) for at in (low - 1, low, low + 1, high - 1, high, high + 1) if 0 <= at < top]
    for address in [each for each in found if each.version == 4][4_900:]:
        bits = int(address)
        forms = (
            0xFFFF << 32 | bits,
            bits,
            0x64FF9B << 96 | bits,
            0x2002 << 112 | bits << 80,
            0x2001 << 112 | bits << 64,
        )
        found += map(IPv6Address, (*forms, 0xFFFF << 48 | bits, 0x2A00 << 112 | 0x5EFE << 32 | bits))
    return found + [IPv6Address(1 << 125 | dice.getrandbits(125)) for _ in range(3_000)]


def is_stricter(address):
    """Whether this guard refuses, for a reason that is ours, what ssrfguard lets pass."""
    if address.version == 4:
        return address in {IPv4Address("168.63.129.16"), IPv4Address("192.0.0.9"), IPv4Address("192.0.0.10")}
    bits = int(address)
    inside = IPv4Address(bits & 0xFFFFFFFF)
    return (
        address not in ip_network("2000::/3")  # nobody has these; ::ffff:0:0/96 and 64:ff9b::/96 lead to Azure's
        or address in ip_network("2002::/16")  # 6to4, of which no relays are left
        or address in ip_network("2001::/23")  # addresses of protocols, at which nobody serves
        or (bits >> 32 & 0xFFFFFFFF == 0x5EFE and place_of(inside).reach is not Reach.PUBLIC)  # ISATAP
    )


def test_addresses_are_judged_as_the_oracle_judges_them():
    """Nothing passes that ssrfguard refuses; what it lets pass and this guard does not has a reason."""
    found = corners()
    looser = [each for each in found if place_of(each).reach is Reach.PUBLIC and not may_be_asked(each)]
    stricter = [each for each in found if place_of(each).reach is not Reach.PUBLIC and may_be_asked(each)]

    assert looser == []
    assert [each for each in stricter if not is_stricter(each)] == []


# -- redirects ------------------------------------------------------------------------------------


def chain(*hops):
    """Return a URL of public.test that redirects to the last of hops by way of the others, (status, URL) each."""
    url = hops[-1][1]
    for status, _ in reversed(hops):
        url = f"http://public.test/redirect/{status}/{quote(url, safe='')}"
    return url


CHAINS = [
    *(chain((status, "http://127.0.0.1/secret")) for status in (301, 302, 303, 307, 308)),
    chain((302, ""), (302, "http://169.254.169.254/latest/meta-data/")),
    chain((302, ""), (307, ""), (308, "http://[::ffff:169.254.169.254]/")),
    chain((301, ""), (301, ""), (301, ""), (301, "http://localhost/secret")),
    chain((302, "//127.0.0.1/secret")),
    chain((302, "http://2130706433/secret")),
    chain((302, "http://loopback.test/secret")),
    chain((302, "http://metadata.test/latest")),
    chain((302, "http://turning.test/secret")),
    chain((302, "file:///etc/passwd")),
    chain((302, "gopher://127.0.0.1:25/x")),
    chain((302, "http://user:password@public.test/secret")),
    chain((302, "http://public.test:22/secret")),
    chain((302, "http://[64:ff9b::7f00:1]/secret")),
    chain(*[(302, "")] * 5, (302, "http://public.test/secret")),
    "http://public.test/hops/6",
]


def test_redirect_chains_end_where_they_may_not_go(monkeypatch):
    """20 chains: each is asked of the honest server up to the forbidden hop, and nothing else is connected."""

    class Routed(httpcore2.AnyIOBackend):
        """The way to the public address, which on this machine ends at the test's server."""

        async def connect_tcp(self, host, port, *rest, **more):
            host, port = ("127.0.0.1", server.server_port) if host == PUBLIC else (host, port)
            return await super().connect_tcp(host, port, *rest, **more)

    turning = {"turning.test": [[PUBLIC, "10.0.0.1"]], "public.test": [[PUBLIC]]}
    with NameServer({name: [found] for name, found in NAMES.items()} | turning) as names, Server() as server:
        monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
        monkeypatch.setattr(network.httpcore2, "AnyIOBackend", Routed)
        with connections(server) as made:
            ended = ask_all(CHAINS)

    assert len(CHAINS) == 20
    assert set(ended[:18]) == {"EgressRefusedError"}
    assert ended[18:] == ["TooManyRedirects"] * 2
    assert set(made) == {("127.0.0.1", server.server_port)}
    assert not [each for each in server.asked if "secret" in each["path"].split("/")[1]]


# -- names ----------------------------------------------------------------------------------------

REBINDS = [
    [[PUBLIC], ["127.0.0.1"]],
    [["10.0.0.1"], [PUBLIC]],
    [[PUBLIC, "127.0.0.1"], [PUBLIC, "192.168.0.1"]],
    [[PUBLIC, "::ffff:127.0.0.1"], ["::1", PUBLIC]],
    [["alias.test"], [PUBLIC]],
]


def test_names_that_change_are_looked_up_once_for_each_connection(monkeypatch):
    """100 names that lead elsewhere at the second look: no connection to a refused address, one look for each."""
    turns = {f"r{at}.test": REBINDS[at % len(REBINDS)] for at in range(100)}
    with NameServer(turns | {"alias.test": [["169.254.169.254"]]}) as names:
        monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
        with connections() as made:
            for _ in range(2):
                ask_all([f"http://{name}/" for name in turns])

    assert {names.lookups[name] for name in turns} == {2}
    assert [host for host, _ in made if not may_be_asked(host)] == []
    assert len(made) == 60  # of five kinds: the first time one, the second time two


def test_tls_and_host_go_by_name_while_the_connection_goes_by_address(monkeypatch, tmp_path):
    """The server is told the name, and its certificate is compared with it."""
    root, context = authority(tmp_path, "shop.test")
    trusted = ssl.create_default_context(cafile=root)
    private = Egress(allow_private=True)
    with NameServer({"shop.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}) as names, Server(context) as server:
        monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
        with connections(server):
            right, wrong = ask_all(
                [server.url("text", "shop.test"), server.url("text", "other.test")], private, verify=trusted
            )

    assert (right, wrong) == ("Grüße", "ConnectError")
    assert [each["headers"]["host"] for each in server.asked] == [f"shop.test:{server.server_port}"]


def test_next_address_is_tried_when_one_does_not_answer(monkeypatch):
    """A name with several addresses is reached by one that answers."""
    with NameServer({"two.test": [["::1", "127.0.0.1"]]}) as names, Server() as server:
        monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
        assert ask_all([server.url("text", "two.test")], Egress(allow_private=True)) == ["Grüße"]


def test_bombs_are_unpacked_in_pieces():
    """However much a few bytes unpack to, no more than a piece is in memory."""
    bomb = zlib.compress(bytes(64 * 2**20), 9)

    pieces = Unpacking("deflate").feed(bomb)

    assert len(bomb) < 100_000
    assert {len(piece) for piece in pieces} == {PIECE}


# -- what one may say -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    name: str
    egress: Egress
    url: str
    leads_to: str
    allowed: bool


PRIVATE = Egress(allow_private=True)
LISTED = Egress(hosts=["api.test", "*.wild.test", "10.1.0.0/16", "127.0.0.1"])
CASES = [
    Case("private allowed", PRIVATE, "http://intranet.test/", "10.0.0.1", True),
    Case("private at any port", PRIVATE, "http://127.0.0.1:8000/", "127.0.0.1", True),
    Case("this machine by IPv6", PRIVATE, "http://[::1]:8000/", "::1", True),
    Case("public port stays", PRIVATE, "http://api.test:8000/", PUBLIC, False),
    Case("metadata never", PRIVATE, "http://169.254.169.254/", "169.254.169.254", False),
    Case("metadata name never", PRIVATE, "http://metadata.google.internal/", PUBLIC, False),
    Case("metadata by name never", PRIVATE, "http://cute.test/", "fd00:ec2::254", False),
    Case("metadata in IPv6 never", PRIVATE, "http://[::ffff:a9fe:a9fe]/", "::ffff:a9fe:a9fe", False),
    Case("listed name", LISTED, "http://API.test./", PUBLIC, True),
    Case("listed below", LISTED, "http://a.b.wild.test/", PUBLIC, True),
    Case("not itself below", LISTED, "http://wild.test/", PUBLIC, False),
    Case("unlisted", LISTED, "http://else.test/", PUBLIC, False),
    Case("ends alike", LISTED, "http://notapi.test/", PUBLIC, False),
    Case("listed network", LISTED, "http://10.1.2.3:9000/", "10.1.2.3", True),
    Case("name into a listed network", LISTED, "http://intranet.test/", "10.1.2.3", True),
    Case("other network", LISTED, "http://10.2.2.3/", "10.2.2.3", False),
    Case("listed name turns private", LISTED, "http://api.test/", "192.168.0.1", False),
    Case("metadata listed", Egress(hosts=["fd00:ec2::254"]), "http://[fd00:ec2::254]/", "fd00:ec2::254", False),
    Case("listed port", Egress(ports=[8443]), "https://api.test:8443/", PUBLIC, True),
    Case("usual port unlisted", Egress(ports=[8443]), "https://api.test/", PUBLIC, False),
    Case("any port", Egress(ports="any"), "https://api.test:1/", PUBLIC, True),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_policy_says_what_it_says(case):
    """A policy narrows and opens as its fields say, and nothing opens the way to metadata."""
    target = target_of(httpx2.URL(case.url))
    verdict = judge(target, case.egress)
    if verdict.allowed:
        verdict = judge_addresses(target.host, target.origin[2], [ip_address(case.leads_to)], case.egress)

    assert verdict.allowed is case.allowed
    assert verdict.why


@pytest.mark.parametrize("words", [{"hosts": "a.test"}, {"hosts": ["10.0.0.0/99"]}, {"hosts": ["a b"]}, {"ports": [0]}])
def test_policy_that_cannot_be_meant_is_refused(words):
    """A sentence says what is expected."""
    with pytest.raises(ConfigError, match=r"expected|such as"):
        Egress(**words)


def test_reason_is_a_sentence():
    """A refusal names what was asked, what it is, and what to do."""
    assert judge(Target("http", "127.0.0.1", 80), Egress()).why == (
        "127.0.0.1 is this machine "
        "(it is asked only where allow_private_urls of the stage or Egress(allow_private=True) allows it)"
    )


# -- proxies and models ------------------------------------------------------------------------------


def test_proxies_of_the_environment_are_used_only_where_allowed(monkeypatch):
    """Without leave the request goes its own way; with it, what is asked for is still judged."""
    with Server() as proxy, Server() as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.setenv("no_proxy", "")
        direct = ask_all([server.url("text")], Egress(allow_private=True))
        led = ask_all(["http://api.test/x", "http://169.254.169.254/"], Egress(proxies=True))

    assert direct == ["Grüße"]
    assert led[1] == "EgressRefusedError"
    assert [each["path"].split("/")[2] for each in proxy.asked] == ["api.test"]


def test_models_are_anywhere_but_at_metadata(monkeypatch):
    """A model's address is the user's choice, on this machine too; the credentials of the machine are none."""
    with NameServer({"model.test": [["169.254.169.254"]]}) as names:
        monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
        with connections() as made:
            for base in (
                "http://169.254.169.254/v1",
                "http://model.test:8080/v1",
                "http://metadata.google.internal/v1",
            ):
                with pytest.raises(EgressRefusedError):
                    LLMClient("m", base_url=base, api_key="k").chat([{"role": "user", "content": "hi"}])

    assert made == []
