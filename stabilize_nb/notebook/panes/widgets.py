"""Small pieces that panes are made of. A trait is set only when its value changes: nothing is painted for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as w
from markupsafe import Markup


def html(value: str = "", **layout: str) -> w.HTML:
    """Return a piece of markup; what is in it is escaped already."""
    return w.HTML(str(value), layout=w.Layout(**layout))


def show(widget: w.Widget, **traits: Any) -> None:
    """Set the traits that differ from what is shown."""
    for name, value in traits.items():
        wanted = str(value) if isinstance(value, Markup) else value
        if getattr(widget, name) != wanted:
            setattr(widget, name, wanted)


def button(words: str, meaning: str, clicked: Callable[[w.Button], None]) -> w.Button:
    """Return a button as wide as its words."""
    made = w.Button(description=words, tooltip=meaning, layout=w.Layout(width="auto"))
    made.on_click(clicked)
    return made


def hide(widget: w.DOMWidget, *, hidden: bool) -> None:
    """Take a piece off the page, or bring it back."""
    show(widget.layout, display="none" if hidden else None)


def close_all(widget: w.Widget) -> None:
    """Close a widget with everything in it, layouts and styles too."""
    for child in getattr(widget, "children", ()):
        close_all(child)
    for name in ("layout", "style"):
        part = getattr(widget, name, None)
        if isinstance(part, w.Widget):
            part.close()
    widget.close()


def hear_at_once(widget: w.Widget) -> None:
    """
    Have all that a page says of a widget, and of what is in it, heard in the order in which it was said, and at once.

    JupyterLab sends what concerns widgets to a thread of its own, so it is heard while a cell computes. ipykernel 7.4
    hands each widget's messages to the thread that spoke to that widget last instead: a click would be heard at once
    and a field that was filled in before it when the cell has ended.
    """
    for child in getattr(widget, "children", ()):
        hear_at_once(child)
    if widget.comm is not None:
        widget.comm._reply_subshell_for = None  # noqa: SLF001 - as for a comm that knows nothing of threads
