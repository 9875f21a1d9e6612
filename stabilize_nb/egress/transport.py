"""
The guard as a transport of httpx2: every request passes it, also those that a redirect leads to.

It refuses what the policy refuses, drops credentials where a redirect leaves their origin, and bounds the time from the
first request of a chain to the end of the last answer and the size of answers, before and after they are unpacked.
Headers are bounded by h11 (100 KiB).
"""

from __future__ import annotations

import asyncio
import ssl
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpcore2
import httpx2

from stabilize_nb.egress.client import shown, target_of
from stabilize_nb.egress.inflate import ACCEPTED, UnpackError, Unpacking
from stabilize_nb.egress.network import CheckedNetwork, Note
from stabilize_nb.egress.policy import Egress, EgressRefusedError, Target, TooLargeError, judge

#: Headers that say nothing about who asks: all others stay with the origin that they were meant for.
_HARMLESS: Final = frozenset({
    "accept", "accept-encoding", "accept-language", "connection", "content-length", "content-type", "cookie", "host",
    "range", "transfer-encoding", "user-agent",
})  # fmt: skip
_CHAIN: Final = "stabilize_nb.chain"


@dataclass(slots=True)
class _Chain:
    """A request with the redirects that it led to."""

    target: Target
    deadline: float | None


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends requests where an Egress allows; `note` is told of every decision in a sentence.

    `size`: bytes that an answer may have, packed and unpacked. `time`: seconds for a whole chain of redirects.
    """

    def __init__(
        self,
        egress: Egress,
        *,
        size: int | None,
        time: float | None,
        tls: ssl.SSLContext,
        note: Note,
        limits: httpx2.Limits | None = None,
    ) -> None:
        self._egress = egress
        self._size = size
        self._time = time
        self._tls = tls
        self._note = note
        self._limits = limits or httpx2.Limits()
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=self._limits.max_connections,
            max_keepalive_connections=self._limits.max_keepalive_connections,
            keepalive_expiry=self._limits.keepalive_expiry,
            network_backend=CheckedNetwork(egress, note),
        )
        self._proxies: dict[str, httpx2.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        target = target_of(request.url)
        verdict = judge(target, self._egress)
        if not verdict.allowed:
            where = shown(request.url)
            self._note(f"egress: refused {where}: {verdict.why}")
            raise EgressRefusedError(f"{where} may not be asked: {verdict.why}")
        chain = self._chain(request, target)
        if chain.target.origin != target.origin:
            for name in [name for name in request.headers if name.lower() not in _HARMLESS]:
                del request.headers[name]
            request.extensions[_CHAIN] = _Chain(target, chain.deadline)
        request.headers["accept-encoding"] = ACCEPTED
        async with _until(chain.deadline):
            answer = await self._sent(request)
        return self._bounded(answer, chain.deadline)

    def _chain(self, request: httpx2.Request, target: Target) -> _Chain:
        known: _Chain | None = request.extensions.get(_CHAIN)
        if known is None:
            time = self._time
            known = _Chain(target, None if time is None else asyncio.get_running_loop().time() + time)
            request.extensions[_CHAIN] = known
        return known

    async def _sent(self, request: httpx2.Request) -> httpx2.Response:
        proxy = _proxy_for(request.url) if self._egress.proxies else None
        if proxy is not None:
            self._note(f"egress: asking {shown(request.url)} through the proxy {shown(httpx2.URL(proxy))}")
            if proxy not in self._proxies:
                self._proxies[proxy] = httpx2.AsyncHTTPTransport(verify=self._tls, proxy=proxy, limits=self._limits)
            return await self._proxies[proxy].handle_async_request(request)
        url = request.url
        asked = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx2():
            answer = await self._pool.handle_async_request(asked)
        return httpx2.Response(answer.status, headers=answer.headers, stream=_Raw(answer), extensions=answer.extensions)

    def _bounded(self, answer: httpx2.Response, deadline: float | None) -> httpx2.Response:
        """Return the answer with a body that is unpacked, and breaks off where it becomes too large or too late."""
        headers = answer.headers.copy()
        encoding = headers.pop("content-encoding", "")
        if encoding:
            headers.pop("content-length", None)
        body = _Body(answer.stream, encoding, self._size, deadline)
        return httpx2.Response(answer.status_code, headers=headers, stream=body, extensions=answer.extensions)

    async def aclose(self) -> None:
        await self._pool.aclose()
        for proxy in self._proxies.values():
            await proxy.aclose()


class _Raw(httpx2.AsyncByteStream):
    """A body as it comes over the connection."""

    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx2():
            async for piece in self._answer.aiter_stream():
                yield piece

    async def aclose(self) -> None:
        with _as_httpx2():
            await self._answer.aclose()


class _Body(httpx2.AsyncByteStream):
    """A body, unpacked, within its bounds."""

    def __init__(self, raw: Any, encoding: str, size: int | None, deadline: float | None) -> None:
        self._raw = raw
        self._encoding = encoding
        self._size = size
        self._deadline = deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        packed = unpacked = 0
        pieces = aiter(self._raw)
        try:
            unpacking = Unpacking(self._encoding)
            while (raw := await self._next(pieces)) is not None:
                packed = self._counted(packed, raw)
                for piece in unpacking.feed(raw):
                    unpacked = self._counted(unpacked, piece)
                    yield piece
            unpacking.end()
        except UnpackError as error:
            raise httpx2.DecodingError(str(error)) from None

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        async with _until(self._deadline):
            return await anext(pieces, None)

    def _counted(self, so_far: int, piece: bytes) -> int:
        total = so_far + len(piece)
        if self._size is not None and total > self._size:
            raise TooLargeError(f"the answer is larger than the max size of {self._size:,} bytes")
        return total

    async def aclose(self) -> None:
        await self._raw.aclose()


def _proxy_for(url: httpx2.URL) -> str | None:
    if urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    found = proxies.get(url.scheme) or proxies.get("all")
    return found if found is None or "://" in found else f"http://{found}"


@contextmanager
def _as_httpx2() -> Iterator[None]:
    """Raise errors of the connection under the names that users of the client know."""
    try:
        yield
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        raise getattr(httpx2, type(error).__name__, httpx2.TransportError)(str(error)) from error
    except httpcore2.UnsupportedProtocol as error:
        raise httpx2.UnsupportedProtocol(str(error)) from error


@asynccontextmanager
async def _until(deadline: float | None) -> AsyncIterator[None]:
    """End a block at a time of the event loop, with the error of a request that took too long."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as error:
        raise httpx2.ReadTimeout("the answer took too long") from error
