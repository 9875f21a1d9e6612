"""
Having the page told that its messages were dealt with, also while a cell awaits.

A page holds back what is typed into a widget until it hears that the change before was dealt with. ipykernel 7.4
handles messages of widgets while a cell awaits, and tells nothing: of what is typed during an `await run` only the
first letter would come, and nothing more of that field after the cell either. So the kernel is made to tell.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stabilize_nb.notebook.shell import Shell


def register(shell: Shell) -> None:
    """Have the kernel of a shell answer while a cell awaits; one without such messages stays as it is."""
    kernel: Any = getattr(shell, "kernel", None)
    dispatch = getattr(kernel, "dispatch_shell", None)
    if dispatch is not None and "concurrent" in signature(dispatch).parameters and not hasattr(dispatch, "__wrapped__"):
        kernel.dispatch_shell = _answering(kernel, dispatch)


def unregister(shell: Shell) -> None:
    """Undo `register`."""
    vars(getattr(shell, "kernel", None) or shell).pop("dispatch_shell", None)


def _answering(kernel: Any, dispatch: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @wraps(dispatch)
    async def answering(message: Any, /, subshell_id: str | None = None, *, concurrent: bool = False) -> None:
        cell = kernel.get_parent("shell")
        await dispatch(message, subshell_id=subshell_id, concurrent=concurrent)
        if concurrent:
            kernel._publish_status("idle", "shell")  # noqa: SLF001 - as the kernel itself does after other messages
            kernel._publish_status("busy", "shell", parent=cell)  # noqa: SLF001 - the cell goes on

    return answering
