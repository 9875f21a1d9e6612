"""
What a body prints and displays, caught for the thread or the coroutine that does it.

`sys.stdout` and `sys.stderr` become routers: what is written while a body is at work in the writer's context goes to
the output of that body, everything else where it went before. Displays of IPython are caught by a hook, which IPython
keeps for each thread. So nothing that a body prints appears under whatever cell happens to run, and nothing that
others print is taken away from them.

In a program without IPython, prints still appear where they always did, and are kept besides. A thread that a body
starts itself has a context of its own, so its prints are nobody's; `asyncio.to_thread` and `contextvars.copy_context`
take the context along. A body that prints nothing costs nothing.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from stabilize_nb.errors import ConfigError
from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.secrets.hiding import held_back, hide
from stabilize_nb.secrets.patterns import masked
from stabilize_nb.within import Within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

#: "keep": in the log only; "echo": in the log, and printed as well; "off": printed only; "auto": "keep" within
#: IPython, else "echo".
Manner = Literal["auto", "keep", "echo", "off"]
#: Characters that are kept of one body; what follows them is dropped.
LIMIT: Final = 65_536
CUT: Final = "… cut\n"
#: Kinds of data that are kept of what a body displays.
KINDS: Final = ("text/plain", "text/markdown", "image/png", "image/jpeg", "image/svg+xml")

PIXELS: Final = frozenset({"image/png", "image/jpeg"})
STREAMS: Final = frozenset({"stdout", "stderr"})

#: One thing printed or displayed: {"stdout": text}, {"stderr": text}, or a display's data by mime type.
Part = dict[str, Any]

_REWRITTEN: Final = re.compile(r"[^\n]*\r(?=[^\n])")


class Output:
    """What one body has printed and displayed, in order. Several threads of it may write."""

    def __init__(self, run_id: str = "", *, echoes: bool = False) -> None:
        self.run_id = run_id
        self.echoes = echoes
        self.since = time.monotonic()
        self._parts: list[Part] = []
        self._places: dict[str, Part] = {}
        self._waiting: dict[str, str] = {}
        self._left = LIMIT
        self._lock = threading.Lock()

    def write(self, stream: str, text: str) -> None:
        """Take in what was printed. A line that was written anew, as progress bars are, is kept as it was last."""
        with self._lock:
            if self._left <= 0:
                return
            last = self._parts[-1] if self._parts and stream in self._parts[-1] else None
            before = last[stream] if last is not None else ""
            line = before.rfind("\n") + 1
            tail = hide(before[line:] + text)
            if "\r" in tail:
                tail = _REWRITTEN.sub("", tail.replace("\r\n", "\n"))
            room = self._left + len(before) - line
            self._left = room - len(tail)
            if self._left <= 0:
                tail = tail[:room] + ("" if tail[:room].endswith("\n") else "\n") + CUT
            if last is None:
                self._parts.append({stream: tail})
            else:
                last[stream] = before[:line] + tail

    def display(self, data: Mapping[str, Any], place: str | None, *, is_update: bool) -> None:
        """Take in what was displayed; an update takes the place of what was displayed there."""
        shown = {kind: hide(data[kind]) for kind in KINDS if isinstance(data.get(kind), str)}
        with self._lock:
            old = self._places.get(place or "") if is_update else None
            if is_update and old is None:
                return
            self._left += _size(old or {})
            shown = self._fitting(shown)
            self._left -= _size(shown)
            if old is not None:
                old.clear()
                old.update(shown)
            elif shown:
                self._parts.append(shown)
                if place:
                    self._places[place] = shown

    def _fitting(self, shown: Part) -> Part:
        if _size(shown) <= self._left:
            return shown
        text = shown.get("text/plain", "a display")
        return {"text/plain": f"{text[:200]} (too large to be kept)"} if self._left > 0 else {}

    def clear(self) -> None:
        """Drop what was printed and displayed, as far as it was not taken yet."""
        with self._lock:
            self._left += sum(map(_size, self._parts))
            self._parts, self._places = [], {}

    def parts(self) -> list[Part]:
        """Return what was not taken yet."""
        with self._lock:
            return [_masked(part) for part in self._parts if part]

    def take(self, *, at_end: bool = True) -> list[Part]:
        """Return what was not taken yet; it is not returned again. `at_end`: nothing more will come."""
        with self._lock:
            parts, self._parts, self._places = self._parts, [], {}
            if parts and not at_end:
                self._hold_back(parts[-1])
        return [_masked(part) for part in parts if part]

    def _hold_back(self, last: Part) -> None:
        """Keep what may be the beginning of a secret, of which the rest is not printed yet."""
        for stream in STREAMS & last.keys():
            text = last.pop(stream)
            end = len(text) - held_back(text)
            last |= {stream: text[:end]} if end else {}
            self._parts = [{stream: text[end:]}] if end < len(text) else []

    def echoed(self, stream: str, text: str, *, at_end: bool = False) -> str:
        """Return what is printed as well: what may be the beginning of a secret waits for what follows it."""
        with self._lock:
            whole = hide(self._waiting.pop(stream, "") + text)
            end = len(whole) if at_end else len(whole) - held_back(whole)
            self._waiting |= {stream: whole[end:]} if end < len(whole) else {}
        return masked(whole[:end])

    def unsaid(self) -> list[str]:
        """Return the streams of which something waits to be printed as well."""
        with self._lock:
            return [*self._waiting]

    def give_back(self, parts: list[Part]) -> None:
        """Undo `take`."""
        with self._lock:
            self._parts = [*parts, *self._parts]


def _masked(part: Mapping[str, str]) -> Part:
    return {kind: text if kind in PIXELS else masked(text) for kind, text in part.items()}


def _size(part: Mapping[str, str]) -> int:
    return sum(map(len, part.values()))


#: Called with the id of a run when one of its bodies has printed or displayed something; short, in the body's thread.
LISTENERS: Final[list[Callable[[str], None]]] = []
_current: ContextVar[Output | None] = ContextVar("stabilize_nb_output", default=None)
_hooked = threading.local()


class Router:
    """Stands for `sys.stdout` or `sys.stderr`; all but writing is done by the stream behind it."""

    def __init__(self, stream: Any, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        """Write to the output of the body at work here, or to the stream."""
        output = _current.get()
        if output is None or not isinstance(text, str):
            return int(self._stream.write(text) or 0)
        output.write(self._name, text)
        _tell(output)
        if output.echoes:
            with Within(_current, None):  # the stream may be one that ends in another router
                self._stream.write(output.echoed(self._name, text))
        return len(text)

    def relay(self, text: str) -> None:
        """Write what another program printed: the log has it as it came, the terminal what no terminal obeys."""
        output = _current.get()
        if output is not None:
            output.write(self._name, text)
            _tell(output)
            text = output.echoed(self._name, text) if output.echoes else ""
        with Within(_current, None):
            self._stream.write(obeyed_by_none(text))

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def log_text(text: str) -> None:
    """Put text into the output of the body at work here, as if it was printed; a terminal does not show it."""
    output = _current.get()
    if output is not None:
        output.write("stdout", text)
        _tell(output)


class Catching(Within["Output | None"]):
    """Lets what this thread or coroutine prints and displays go to `output`; None changes nothing."""

    __slots__ = ("_output",)

    def __init__(self, output: Output | None) -> None:
        super().__init__(_current, output)
        self._output = output

    def __enter__(self) -> None:
        if self._output is not None:
            _route()
            _hook()
            super().__enter__()

    def __exit__(self, *_: object) -> None:
        if self._output is not None:
            super().__exit__()
            for stream in self._output.unsaid():
                getattr(sys, stream).write(self._output.echoed(stream, "", at_end=True))


def output_for(manner: str, run_id: str) -> Output | None:
    """Return where the prints of a body go; None when they are not caught."""
    if manner == "off":
        return None
    return Output(run_id, echoes=manner == "echo" or (manner == "auto" and _shell() is None))


def check_manner(manner: str) -> None:
    """Raise ConfigError for a manner that is not known."""
    if manner not in get_args(Manner):
        msg = f"task_output {manner!r} is not known; expected one of {', '.join(get_args(Manner))}"
        raise ConfigError(msg)


def _route() -> None:
    """Put routers in place of the streams; also again, after others have put theirs there."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Router):
            setattr(sys, name, Router(stream, name))


def _hook() -> None:
    """Catch displays of this thread; a shell without hooks prints what it displays."""
    shell = _shell()
    publisher: Any = getattr(shell, "display_pub", None)
    if hasattr(publisher, "register_hook") and getattr(_hooked, "publisher", None) is not publisher:
        publisher.register_hook(_caught)
        _hooked.publisher = publisher


def _shell() -> Any:
    """Return the shell of IPython, when this is one; nothing is imported for that."""
    module: ModuleType | None = sys.modules.get("IPython.core.getipython")
    return None if module is None else module.get_ipython()


def _caught(message: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Take a display to the body at work here; returns None then, which tells IPython that it is dealt with."""
    output = _current.get()
    if output is None:
        return message
    content, kind = message["content"], message["msg_type"]
    if kind == "clear_output":
        output.clear()
    elif kind in {"display_data", "update_display_data"}:
        place = content.get("transient", {}).get("display_id")
        output.display(content["data"], place, is_update=kind == "update_display_data")
    _tell(output)
    return None


def _tell(output: Output) -> None:
    for listener in LISTENERS:
        listener(output.run_id)
