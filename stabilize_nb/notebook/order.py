"""One call of %workflow: what was written, and what it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from IPython.core.error import UsageError

from stabilize_nb.flow import Flow
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.runtime import RUNTIME, Definition
from stabilize_nb.notebook.words import Line, did_you_mean
from stabilize_nb.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One call of %workflow; `names` are the variables of the notebook."""

    line: Line
    names: Mapping[str, Any]
    usage: str

    @property
    def words(self) -> list[str]:
        """What was written besides options and values."""
        return self.line.words

    def word(self, at: int = 0) -> str:
        """Return a word that must be there."""
        if len(self.words) <= at:
            raise UsageError(f"something is missing; usage: {self.usage}")
        return self.words[at]

    def only(self, most: int) -> None:
        """Refuse words beyond the first `most`, and values: for commands that take none."""
        extra = [*self.words[most:], *self.line.given]
        if extra:
            raise UsageError(f"{extra[0]!r} is too much; usage: {self.usage}")

    def run(self, default: str | None = None) -> Run:
        """Return the run that the first word names."""
        return RUNTIME.run(self.words[0] if self.words or default is None else default, self.names)

    def run_and_part(self) -> tuple[Run, str | None]:
        """Return what RUN/PART names; the part may be missing."""
        whole, _, part = self.word().rpartition("/") if "/" in self.word() else (self.word(), "", "")
        return RUNTIME.run(whole, self.names), part or None


def definition(name: str) -> Definition:
    """Return the definition of that name; raises UsageError when no cell has made it."""
    found = RUNTIME.definitions.get(name)
    if found is None:
        known = ", ".join(RUNTIME.definitions) or "none yet"
        close = did_you_mean(name, RUNTIME.definitions)
        raise UsageError(f"no workflow is called {name!r}{close}; defined here: {known}")
    return found


def defined(order: Order) -> Definition | None:
    """Return the definition that the first word names, from a cell or from a variable."""
    name = order.word()
    if name in RUNTIME.definitions:
        return RUNTIME.definitions[name]
    bound = order.names.get(name)
    return Definition(name=name, work=bound) if isinstance(bound, Flow | Workflow) else None
