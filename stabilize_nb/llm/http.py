"""
HTTP to model servers: connections, and what servers say of errors.

All clients share the connections of the engine's event loop, on which bodies wait and which the sync calls use too. On
a loop of somebody else's, which may end at any time, each call has a connection of its own. Connections belong to
their loop, so a forked child, whose loop is new, leaves those of its parent alone.
"""

from __future__ import annotations

import asyncio
import functools
import json
import math
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stabilize_nb.errors import ConfigError
from stabilize_nb.llm.wire import get
from stabilize_nb.queue.processor.loop import is_on_loop

if TYPE_CHECKING:
    import httpx2

LONGEST_RETRY_AFTER_S = 86_400.0
_shared: dict[asyncio.AbstractEventLoop, httpx2.AsyncClient] = {}


@functools.cache
def library() -> ModuleType:
    """Return httpx2; raises ConfigError where it is not installed."""
    try:
        import httpx2  # noqa: PLC0415 - an optional dependency, and slow to import
    except ImportError:
        msg = "LLMClient needs httpx2, which is not installed: pip install 'stabilize-nb[llm]'"
        raise ConfigError(msg) from None
    return httpx2


def connection() -> AbstractAsyncContextManager[httpx2.AsyncClient]:
    """Return what sends requests on the running loop."""
    if not is_on_loop():
        return _new()
    loop = asyncio.get_running_loop()
    if loop not in _shared:
        _shared[loop] = _new()
    return nullcontext(_shared[loop])


def _new() -> httpx2.AsyncClient:
    found = library()
    # As many connections as there are agents; no cookie of one account reaches the requests of another.
    limits = found.Limits(max_connections=None, max_keepalive_connections=32)
    nothing = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    made: httpx2.AsyncClient = found.AsyncClient(verify=_certificates(), limits=limits, cookies=nothing)
    return made


@functools.cache
def _certificates() -> Any:
    """Return the certificates that are trusted, which take longer to load than a short answer takes."""
    return library().create_ssl_context()


def one_line(text: str, key: str) -> str:
    """Return at most 300 characters of a text, in one line and without the key."""
    return " ".join((text.replace(key, "***") if key else text).split())[:300]


def detail(content: bytes, key: str) -> str:
    """Return what a server says about an error."""
    text = content.decode("utf-8", "replace")
    try:
        error = get(json.loads(text), "error")
    except (ValueError, RecursionError):
        error = None
    said = get(error, "message") or error or text
    return one_line(str(said), key) or "no reason given"


def seconds(header: str | None) -> float | None:
    """Return the seconds in a Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    try:
        wait = float(header)
    except ValueError:
        try:
            wait = (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # a date without zone cannot be compared
            return None
    return min(max(wait, 0.0), LONGEST_RETRY_AFTER_S) if math.isfinite(wait) else None
