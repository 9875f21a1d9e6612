"""
A gate that waits, as a cell shows it: what is asked, what is to be approved, and the lines that decide it.

What is shown may come from a model: control characters and marks that turn the direction of writing are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from markupsafe import Markup

from stabilize_nb.gates import Gate, doubt_about, gate_of
from stabilize_nb.models.gate import APPROVE, ASKS, FAIL, REJECT
from stabilize_nb.models.settling import DONE
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.looks import LOOKS, shorten
from stabilize_nb.notebook.preview import preview
from stabilize_nb.notebook.signs import is_approval
from stabilize_nb.notebook.tables import duration, join, moment
from stabilize_nb.secrets.patterns import masked_value

if TYPE_CHECKING:
    from stabilize_nb.models.forms import Field
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.models.workflow import Workflow

#: Characters of what is to be approved.
PREVIEW: Final = 1_200
#: Length of a ULID, and how much of its end names a run among others.
ULID, HANDLE = 26, 7

_HEAD: Final = Markup("<p>{} <b>{}</b> waits for a decision: <b>{}</b></p>")
_SHOWN: Final = Markup("<blockquote>{}</blockquote>")
_LINE: Final = Markup("<p>{}</p>")
_ANSWER: Final = Markup("{}: <code>{}</code>")
_BREAK: Final = Markup("<br>")
#: The gates as this process has shown them: who decides by a line decides about that.
SEEN: Final[dict[tuple[str, str], Gate]] = {}


def is_asking(stage: StageExecution) -> bool:
    """Whether a decision is waited for now."""
    asks = is_approval(stage) or bool(stage.context.get(ASKS)) or bool(doubt_about(stage)[0])
    return stage.status is WorkflowStatus.SUSPENDED and asks


def handle(run_id: str) -> str:
    """Return the end of an id that is enough to name the run."""
    return run_id[-HANDLE:] if len(run_id) == ULID else run_id


@dataclass(frozen=True, slots=True)
class Asked:
    """A gate that waits for a person, at a moment (`now`: ms since the epoch). Showing it is remembered."""

    gate: Gate
    now: int

    @classmethod
    def of(cls, workflow: Workflow, stage: StageExecution, now: int) -> Self:
        """Return the gate of a stage."""
        return cls(gate_of(workflow.id, workflow.name, stage), now)

    def html(self) -> Markup:
        """Return the gate as HTML."""
        self._remember()
        shown = _SHOWN.format(preview(self.gate.show)) if self.gate.show is not None else ""
        until = join(map(_LINE.format, deadline_words(self.gate, self.now)))
        answers = _LINE.format(_BREAK.join(_ANSWER.format(word, line) for word, line in self.answers().items()))
        return _HEAD.format(self._symbol, self.gate.name, self._question) + shown + until + answers

    def lines(self) -> Iterator[str]:
        """Return the gate as text."""
        self._remember()
        yield f"{self._symbol} {self.gate.name} waits for a decision: {self._question}"
        if self.gate.show is not None:
            yield from (f"  | {line}" for line in self._preview().splitlines())
        yield from (f"  {words}" for words in deadline_words(self.gate, self.now))
        answers = self.answers()
        wide = max(map(len, answers)) + 1
        yield from (f"  {word + ':':{wide}} {line}" for word, line in answers.items())

    def answers(self) -> dict[str, str]:
        """Return the lines that decide, by what they decide."""
        place = f"{handle(self.gate.run_id)}/{self.gate.name}"
        if self.gate.doubt:
            more = {DONE: " [name=value …]", FAIL: " reason=…"}
            return {word: f"%workflow settle {place} {word}{more.get(word, '')}" for word in self.gate.choices}
        fields = "".join(f" {field.name}={_sample(field)}" for field in self.gate.fields)
        if not self.gate.named:
            return {"yes": f"%workflow approve {place}{fields}", "no": f"%workflow reject {place} reason=…"}
        return {
            choice: f"%workflow reject {place} reason=…"
            if choice == REJECT
            else f"%workflow approve {place} decision={choice}{fields}"
            for choice in self.gate.choices
        }

    def _remember(self) -> None:
        SEEN[self.gate.run_id, self.gate.stage_id] = self.gate

    @property
    def _symbol(self) -> str:
        return LOOKS[WorkflowStatus.SUSPENDED].symbol

    @property
    def _question(self) -> str:
        return shorten(self.gate.question or "go on?", PREVIEW)

    def _preview(self) -> str:
        text = _text_of(masked_value(self.gate.show))
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


def _sample(field: Field) -> str:
    """Show what a field takes: one of several choices, or a word for its type."""
    if field.kind == "choice":
        return "|".join(map(str, field.choices))
    return f"<{field.kind}>" if field.needed else f"<{field.kind} or nothing>"


def deadline_words(gate: Gate, now: int) -> list[str]:
    """Say until when a gate waits, and what happens then; nothing for one that waits for ever."""
    if gate.deadline is None:
        return []
    outcome = {REJECT: "it is rejected", APPROVE: "it is approved", FAIL: "it fails"}
    then = outcome.get(gate.on_timeout, f"the decision is {gate.on_timeout!r}")
    left = gate.deadline - now
    if left <= 0:
        return [f"the time is over: {then}"]
    return [f"{duration(-(-left // 1_000) * 1_000)} left, until {moment(gate.deadline, now)}; then {then}"]
