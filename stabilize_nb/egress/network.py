"""Connections to checked addresses: a name is looked up once, and what it leads to is judged and then connected."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any, Final

import httpcore2

from stabilize_nb.egress.addresses import Address, literal
from stabilize_nb.egress.policy import Egress, EgressRefusedError, in_turns, judge_addresses

#: Names that are looked up at once. The system's resolver cannot be broken off, so it gets threads of its own.
LOOKUPS: Final = 16
#: Seconds that an address gets to answer when there is another one.
PATIENCE: Final = 2.0
Note = Callable[[str], None]


async def look_up(host: str, port: int) -> list[Address]:
    """Return the addresses that the system's resolver gives for a name."""
    ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    answers = await asyncio.get_running_loop().run_in_executor(_threads(), ask)
    return list(dict.fromkeys(ip_address(answer[4][0]) for answer in answers))


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(LOOKUPS, "stabilize-resolve")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects only to what an Egress allows. TLS and the Host header go by the name, the connection by the address."""

    def __init__(self, egress: Egress, note: Note) -> None:
        self._egress = egress
        self._note = note
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(host, port, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(f"{host}:{port} could not be connected in time") from error

    async def _connect(
        self, host: str, port: int, local_address: str | None, socket_options: Iterable[Any] | None
    ) -> httpcore2.AsyncNetworkStream:
        addresses = in_turns(await self._addresses(host, port))
        verdict = judge_addresses(host, port, addresses, self._egress)
        self._note(f"egress: {'connecting to' if verdict.allowed else 'refused'} {host}:{port}: {verdict.why}")
        if not verdict.allowed:
            raise EgressRefusedError(f"{host}:{port} may not be asked: {verdict.why}")
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(str(address), port, PATIENCE, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._network.connect_tcp(str(addresses[-1]), port, None, local_address, socket_options)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        address = literal(host)
        if address is not None:
            return [address]
        try:
            return await look_up(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"the name {host} could not be looked up: {error}") from error

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        raise EgressRefusedError(f"the socket {path} may not be asked: only http and https are allowed")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
