"""
Tools of MCP servers for models, by the official package `mcp`.

A connection is opened, held and closed by one task on the event loop that asks the models, so that it outlives the
bodies that use it, and tools are called from any thread and any loop.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from stabilize_nb.errors import ConfigError, PreconditionError
from stabilize_nb.llm.registry import ToolRegistry
from stabilize_nb.llm.tools import Compiled, Tool, ToolContext
from stabilize_nb.models.settling import RETRY
from stabilize_nb.queue.processor.loop import is_on_loop, run_on_loop

try:
    import mcp
except ImportError as error:
    msg = "stabilize_nb.llm.mcp needs the package mcp, which is not installed: pip install 'stabilize-nb[mcp]'"
    raise ConfigError(msg) from error

if TYPE_CHECKING:
    from mcp.types import CallToolResult
    from mcp.types import Tool as Offered

#: Under which name a server finds the idempotency key of a call in its metadata.
KEY = "stabilize-nb/idempotency-key"


@contextmanager
def mcp_tools(
    server: Any,
    tools: ToolRegistry | None = None,
    *,
    prefix: str = "",
    on_crash: str = RETRY,
    approve: bool = False,
    timeout_s: float = 60.0,
) -> Iterator[ToolRegistry]:
    """
    Connect with an MCP server and give its tools; the connection is closed at the end.

    `server`: what `mcp.Client` takes, such as a URL or `mcp.StdioServerParameters(command=...)`. `tools`: a registry to
    which they are added, with names that begin with `prefix`. `on_crash` and `approve` as of `tool`, for all of them.
    A call carries its idempotency key in its metadata, as `stabilize-nb/idempotency-key`.

    Raises ConfigError when the server does not answer within `timeout_s`, or has two tools of one name.
    """
    if is_on_loop():
        raise PreconditionError("mcp_tools would wait on the event loop for the event loop: connect outside of bodies")
    line = _Line(mcp.Client(server))
    try:
        registry = ToolRegistry() if tools is None else tools
        for found in line.tools(timeout_s):
            registry.add(_RemoteTool(line, found, prefix=prefix, on_crash=on_crash, approve=approve))
        yield registry
    finally:
        line.close()


class _Line:
    """A connection, held by a task on the event loop."""

    def __init__(self, client: mcp.Client) -> None:
        self._client = client
        self._end = asyncio.Event()
        self._listed: Future[list[Offered]] = Future()
        self._held = run_on_loop(self._hold())

    async def _hold(self) -> None:
        try:
            async with self._client:
                self._listed.set_result(await self._list())
                await self._end.wait()
        except Exception as error:
            if self._listed.done():
                raise
            self._listed.set_exception(error)

    async def _list(self) -> list[Offered]:
        page = await self._client.list_tools()
        found = list(page.tools)
        while page.next_cursor:
            page = await self._client.list_tools(cursor=page.next_cursor)
            found += page.tools
        return found

    def tools(self, timeout_s: float) -> list[Offered]:
        """Return what the server offers."""
        try:
            return self._listed.result(timeout_s)
        except TimeoutError:
            self._held.cancel()
            raise ConfigError(f"the MCP server has not answered within {timeout_s:g} s; see that it runs") from None
        except Exception as error:
            raise ConfigError(f"the MCP server gives no tools: {_said(error)}; see that it runs by itself") from error

    async def call(self, name: str, arguments: dict[str, Any], key: str) -> CallToolResult:
        """Call a tool, from any loop."""
        calling = self._client.call_tool(name, arguments, meta=cast("Any", {KEY: key}) if key else None)
        return await (calling if is_on_loop() else asyncio.wrap_future(run_on_loop(calling)))

    def close(self) -> None:
        """End the connection, and the server if it was begun for it."""
        if not self._held.done():
            run_on_loop(self._finish())
            self._held.result()

    async def _finish(self) -> None:
        self._end.set()


class _RemoteTool(Tool[..., Any]):
    """A tool of a server, which checks the arguments itself."""

    def __init__(self, line: _Line, offered: Offered, *, prefix: str, on_crash: str, approve: bool) -> None:
        async def call(arguments: dict[str, Any], key: str) -> str:
            return _text(await line.call(offered.name, arguments, key))

        call.__qualname__ = f"{id(line)}.{offered.name}"  # of two servers, two tools of one name are two tools
        name = prefix + re.sub(r"[^A-Za-z0-9_-]", "_", offered.name)
        words = offered.description or offered.title or offered.name
        super().__init__(call, name, words, on_crash, approve=approve)
        self._schema = offered.input_schema

    @functools.cached_property
    def compiled(self) -> Compiled:
        """What the server says of the arguments; it refuses those that do not fit."""
        return Compiled(self._schema, lambda **arguments: arguments, ValueError)

    def prepared(self, arguments: Mapping[str, Any], context: ToolContext | None) -> Callable[[], Any]:
        """Return the call."""
        return functools.partial(self.function, dict(arguments), context.idempotency_key if context else "")


def _text(result: CallToolResult) -> str:
    """Return what a tool said as text for a model, which sees no pictures here."""
    parts = result.content
    said = "\n".join(part.text if part.type == "text" else f"({part.type} that is not shown)" for part in parts)
    if not parts and result.structured_content is not None:
        said = json.dumps(result.structured_content, ensure_ascii=False)
    return f"ERROR: {said}" if result.is_error else said


def _said(error: BaseException) -> str:
    """Return what went wrong in a group of tasks."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
