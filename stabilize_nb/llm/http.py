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
import logging
from contextlib import AbstractAsyncContextManager, nullcontext
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import ModuleType
from typing import TYPE_CHECKING

from stabilize_nb.egress.client import certificates, guarded_transport
from stabilize_nb.egress.policy import Egress
from stabilize_nb.errors import ConfigError
from stabilize_nb.llm.wire import get
from stabilize_nb.queue.processor.loop import is_on_loop

if TYPE_CHECKING:
    import httpx2

#: Whoever names the address of a model chooses where it is: also on this machine, and through the proxies of the
#: environment. Only what holds the credentials of the machine is no model.
WHERE_MODELS_ARE = Egress(allow_private=True, ports="any", proxies=True)
log = logging.getLogger("stabilize_nb.egress")
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
    transport = guarded_transport(
        WHERE_MODELS_ARE, size=None, time=None, tls=certificates(verify=True), note=log.debug, limits=limits
    )
    made: httpx2.AsyncClient = found.AsyncClient(transport=transport, trust_env=False, cookies=nothing)
    return made


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
