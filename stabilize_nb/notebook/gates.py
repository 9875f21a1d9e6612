"""
A gate that waits, as a cell shows it: what is asked, what is to be approved, and the lines that decide it.

What is shown may come from a model: control characters and marks that turn the direction of writing are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.text import LOOKS, shorten

if TYPE_CHECKING:
    from stabilize_nb.models.stage import StageExecution

#: Characters of what is to be approved.
PREVIEW: Final = 1_200
#: Length of a ULID, and how much of its end names a run among others.
ULID, HANDLE = 26, 7

_HEAD: Final = Markup("<p>{} <b>{}</b> waits for a decision: <b>{}</b></p>")
_SHOWN: Final = Markup('<pre style="white-space:pre-wrap">{}</pre>')
_ANSWERS: Final = Markup("<p>yes: <code>{}</code><br>no: <code>{}</code></p>")


def is_gate(stage: StageExecution) -> bool:
    """Whether a person decides at a stage."""
    return stage.type == "approval" or any(task.implementing_class == "approval" for task in stage.tasks)


def is_asking(stage: StageExecution) -> bool:
    """Whether a decision is waited for now."""
    return stage.status is WorkflowStatus.SUSPENDED and is_gate(stage)


def handle(run_id: str) -> str:
    """Return the end of an id that is enough to name the run."""
    return run_id[-HANDLE:] if len(run_id) == ULID else run_id


@dataclass(frozen=True, slots=True)
class Asked:
    """A stage that waits for a person."""

    run_id: str
    stage: StageExecution

    def html(self) -> Markup:
        """Return the gate as HTML."""
        shown = _SHOWN.format(self._preview()) if self._show is not None else ""
        return _HEAD.format(self._symbol, self.stage.ref_id, self._question) + shown + _ANSWERS.format(*self.answers())

    def lines(self) -> Iterator[str]:
        """Return the gate as text."""
        yield f"{self._symbol} {self.stage.ref_id} waits for a decision: {self._question}"
        if self._show is not None:
            yield from (f"  | {line}" for line in self._preview().splitlines())
        yes, no = self.answers()
        yield f"  yes: {yes}"
        yield f"  no:  {no}"

    def answers(self) -> tuple[str, str]:
        """Return the lines that approve and that reject."""
        place = f"{handle(self.run_id)}/{self.stage.ref_id}"
        form: Mapping[str, Any] = self.stage.context.get("form") or {}
        fields = "".join(f" {name}={_sample(kind)}" for name, kind in form.items())
        return f"%workflow approve {place}{fields}", f"%workflow reject {place} reason=…"

    @property
    def _symbol(self) -> str:
        return LOOKS[self.stage.status].symbol

    @property
    def _question(self) -> str:
        return shorten(self.stage.context.get("message") or "go on?", PREVIEW)

    @property
    def _show(self) -> Any:
        return self.stage.context.get("show")

    def _preview(self) -> str:
        text = _text_of(self._show)
        lines = (_clean(line) for line in text[:PREVIEW].splitlines())
        more = f"… ({len(text) - PREVIEW} characters more)" if len(text) > PREVIEW else ""
        return "\n".join(lines) + more


def _text_of(value: Any) -> str:
    """Return a value as a person reads it: a mapping line by line, one with a single entry as that entry."""
    if not isinstance(value, dict) or not value:
        return str(value)
    if len(value) == 1:
        return str(next(iter(value.values())))
    return "\n".join(f"{name}: {each}" for name, each in value.items())


def _clean(line: str) -> str:
    words = line.lstrip(" ")
    return " " * (len(line) - len(words)) + shorten(words, 2 * PREVIEW)


def _sample(kind: Any) -> str:
    """Show what a field takes: one of several choices, or a word for its type."""
    return "|".join(map(str, kind)) if isinstance(kind, list) else f"<{kind}>"
