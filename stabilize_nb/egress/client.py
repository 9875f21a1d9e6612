"""Clients that go only where an Egress allows, for tools and tasks that fetch."""

from __future__ import annotations

import functools
import logging
import ssl
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.egress.policy import Egress, Target
from stabilize_nb.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

#: How many redirects are followed.
REDIRECTS: Final = 5
log = logging.getLogger("stabilize_nb.egress")


def guarded_client(
    egress: Egress | None = None,
    *,
    timeout: float | None = 30.0,
    max_size: int | None = 10 * 2**20,
    verify: ssl.SSLContext | bool = True,
    note: Callable[[str], None] = log.info,
) -> httpx2.AsyncClient:
    """
    Return an httpx2.AsyncClient that goes only where `egress` allows, without one to public addresses alone.

    It follows at most 5 redirects, of which each is checked, and takes no proxy from the environment unless `egress`
    says so. `timeout`: seconds from a request to the end of its answer, redirects included. `max_size`: bytes of an
    answer, packed and unpacked. `note` gets a sentence for every decision.

    Its calls raise EgressRefusedError and TooLargeError beside the errors of httpx2.
    Raises ConfigError where httpx2 is not installed.
    """
    found = library()
    tls = verify if isinstance(verify, ssl.SSLContext) else certificates(verify)
    transport = guarded_transport(egress or Egress(), size=max_size, time=timeout, tls=tls, note=note)
    made: httpx2.AsyncClient = found.AsyncClient(
        transport=transport, follow_redirects=True, max_redirects=REDIRECTS, timeout=None, trust_env=False
    )
    return made


def guarded_transport(egress: Egress, **settings: Any) -> httpx2.AsyncBaseTransport:
    """Return the transport of such a client; `settings` as GuardedTransport takes them."""
    module = import_module("stabilize_nb.egress.transport")  # is a part of httpx2, which may be missing
    made: httpx2.AsyncBaseTransport = module.GuardedTransport(egress, **settings)
    return made


@functools.cache
def library() -> ModuleType:
    """Return httpx2; raises ConfigError where it is not installed."""
    try:
        import httpx2  # noqa: PLC0415 - an optional dependency, and slow to import
    except ImportError:
        raise ConfigError("requests need httpx2, which is not installed: pip install 'stabilize-nb[tasks]'") from None
    return httpx2


@functools.cache
def certificates(verify: bool) -> ssl.SSLContext:
    """Return the certificates that are trusted, which take longer to load than a short answer takes."""
    found: ssl.SSLContext = library().create_ssl_context(verify=verify)
    return found


def target_of(url: httpx2.URL) -> Target:
    """Return what a URL asks for, as the connection will take it."""
    return Target(url.scheme, url.raw_host.decode("ascii"), url.port, bool(url.userinfo))


def shown(url: httpx2.URL) -> str:
    """Return a URL without what may be secret in it: user, password, query, fragment."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))
