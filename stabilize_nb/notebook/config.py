"""
Settings of the notebook: `%config StabilizeNB`, ipython_config.py, and STABILIZE_NB_* in the environment.

The environment counts when the extension is loaded, `%config` from then on. A value that is not known is refused with
a line and the setting stays as it was: %config keeps refused values, so raising would break the next %reload_ext.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from traitlets import TraitType, Unicode
from traitlets.config import SingletonConfigurable

from stabilize_nb.deterministic import deterministic, is_deterministic
from stabilize_nb.notebook.frontend import has_kernel, is_attended

if TYPE_CHECKING:
    from stabilize_nb.notebook.shell import Shell

DISPLAYS = {
    "auto": "what the front end can show",
    "live": "panes of widgets that follow a run",
    "static": "pictures and tables that need no running kernel",
    "text": "text only",
    "deterministic": "static, and the engine works in deterministic mode",
}
RECOVERIES = {
    "ask": "a line names unfinished runs, %workflow resume goes on with them",
    "auto": "unfinished runs go on when the extension is loaded",
    "off": "nothing is looked for",
}


class Choice(TraitType[str, Any]):
    """One of several words; another value is refused with a line on stderr."""

    def __init__(self, words: dict[str, str], default: str) -> None:
        listed = "; ".join(f"{word!r}: {meaning}" for word, meaning in words.items())
        super().__init__(default, help=listed)
        self.words = words

    def validate(self, obj: Any, value: Any) -> str:
        """Return the value, or the present one when it is none of the words."""
        if value in self.words:
            return str(value)
        present: str = obj._trait_values.get(self.name, self.default_value)  # noqa: SLF001 - get would validate again
        known = ", ".join(repr(word) for word in self.words)
        sys.stderr.write(f"StabilizeNB.{self.name} cannot be {value!r}; it stays {present!r} (known: {known})\n")
        return present


class StabilizeNB(SingletonConfigurable):
    """How stabilize_nb behaves in a notebook."""

    display = Choice(DISPLAYS, "auto").tag(config=True)
    recover = Choice(RECOVERIES, "ask").tag(config=True)
    user = Unicode("", help="who decisions at gates are recorded as; empty: the user of this machine").tag(config=True)

    @property
    def who(self) -> str:
        """The name that a decision is recorded under."""
        return self.user or ("you" if is_deterministic() else _account())


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def settings() -> StabilizeNB:
    """Return the settings; the defaults when no extension is loaded."""
    return StabilizeNB.instance()


def display_mode() -> str:
    """Return how things are shown here: as was chosen, else live where a kernel has a front end for widgets."""
    chosen: str = settings().display
    if chosen != "auto":
        return chosen
    if is_deterministic():
        return "deterministic"
    return "live" if has_kernel() and is_attended() else "static"


def live_panes() -> Any:
    """
    Return the module that shows live panes.

    Raises NotImplementedError where there are none to be shown: IPython asks for the bundle then.
    """
    if display_mode() != "live":
        raise NotImplementedError
    # Only here are widgets wanted: a kernel that shows none need not load them.
    return import_module("stabilize_nb.notebook.panes.showing")


def load(shell: Shell, on_mode: Callable[[bool], None]) -> StabilizeNB:
    """Make the settings known to `%config`; `on_mode` is called when deterministic mode is turned on or off."""
    if StabilizeNB.initialized():
        chosen = StabilizeNB.instance()
    else:
        chosen = StabilizeNB.instance(parent=shell)
        for name in ("display", "recover", "user"):
            if value := os.environ.get(f"STABILIZE_NB_{name.upper()}"):
                setattr(chosen, name, value)
        if is_deterministic():
            chosen.display = "deterministic"
        chosen.observe(lambda change: _follow(change["new"], on_mode), "display")
        if chosen.display == "deterministic":
            _follow(chosen.display, on_mode)
    if chosen not in shell.configurables:
        shell.configurables.append(chosen)
    return chosen


def _follow(display: str, on_mode: Callable[[bool], None]) -> None:
    wanted = display == "deterministic"
    if wanted != is_deterministic():
        deterministic(wanted)
        on_mode(wanted)


def unload(shell: Shell) -> None:
    """Take the settings out of `%config`; they keep their values for the next load."""
    if StabilizeNB.initialized() and StabilizeNB.instance() in shell.configurables:
        shell.configurables.remove(StabilizeNB.instance())
