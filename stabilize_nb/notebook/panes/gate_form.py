"""
A gate as a form: the question, what is approved, fields, a note, one button for each choice.

A click pushes the decision, bound to what the form shows, and returns; `paint` finds in the log what became of it. A
form keeps what was typed as long as the gate asks for the same fields. Clicks may come in another thread than paints.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import ipywidgets as w
from markupsafe import Markup

from stabilize_nb.decisions import answer_to, decisions_in, last_of, who_and_when, why_refused
from stabilize_nb.errors import StabilizeError
from stabilize_nb.models.gate import APPROVE, REJECT
from stabilize_nb.models.settling import DONE, FAIL
from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.config import settings
from stabilize_nb.notebook.gates import deadline_words
from stabilize_nb.notebook.looks import LOOKS, shorten
from stabilize_nb.notebook.panes.gate_fields import Fields
from stabilize_nb.notebook.panes.typed import Typed
from stabilize_nb.notebook.panes.widgets import close_all, hear_at_once, hide, html, show
from stabilize_nb.notebook.preview import preview, visible

if TYPE_CHECKING:
    from stabilize_nb.decisions import Decision
    from stabilize_nb.gates import Gate
    from stabilize_nb.run import Run

S = WorkflowStatus
#: Columns of a question.
QUESTION: Final = 1_000

_TOP: Final = Markup(
    '<div style="border-left:4px solid {};padding:2px 10px">'
    "<div>{} <b>{}</b>{} waits for a decision</div>"
    '<div style="font-size:1.15em"><b>{}</b></div>{}</div>'
)
_OF_RUN: Final = Markup(" of {} <small>{}</small>")
_SHOWN: Final = Markup(
    '<div role="region" aria-label="what is decided about" tabindex="0" '
    'style="border:1px solid #767676;border-radius:4px;padding:6px 10px;margin:6px 0;max-height:420px;'
    'overflow:auto;line-height:1.45">'
    "{}</div>"
)
_SAID: Final = Markup('<div role="status" aria-live="polite">{}<small>{}</small></div>')
_ALERT: Final = Markup('<div role="alert"><b>{}</b></div>')
_DECIDED: Final = Markup("<div><b>{} {}</b>{}</div>")
_STYLES: Final = {APPROVE: "success", DONE: "success", REJECT: "danger", FAIL: "danger"}


class GateForm:
    """The widgets of one gate; `box` holds them all. `paint` is called with the gate as it is now.

    `is_named`: whether it says of which run the gate is.
    """

    def __init__(self, run: Run, gate: Gate, *, is_named: bool = False) -> None:
        self.run = run
        self._is_named = is_named
        self.gate = gate
        self.decided: Decision | None = None
        self._waits = True
        self._pending = ""  # id of the decision that was sent and not answered
        self._sent = gate.generation  # of the gate about which it was
        self._alert = ""
        self._lock = threading.RLock()
        self._top, self._said = html(), html()
        self._fields = Fields(gate.fields)
        self.buttons: dict[str, w.Button] = {}
        self._row = w.HBox([], layout=w.Layout(flex_flow="row wrap"))
        self.box = w.VBox([], layout=w.Layout(margin="4px 0 12px 0"))
        self._typed = Typed(self.box)
        self._make(gate)
        self.paint(gate, run.engine.database.clock())

    @property
    def inputs(self) -> dict[str, w.Widget]:
        """The widget of each field, and of the note, by name."""
        return self._fields.by_name

    # -- painting ---------------------------------------------------------------------------------

    def paint(self, gate: Gate | None, now: int) -> None:
        """Show the gate as it is now; None: it does not wait any more."""
        with self._lock:
            if self._pending:
                self._look_for_answer()
            if gate is None or self._is_over(gate):
                self._over()
            else:
                self._asking(gate)
            self._say(now)

    def tick(self, now: int) -> None:
        """Let the time go on that is left."""
        with self._lock:
            self._say(now)

    def close(self) -> None:
        """Take the widgets away."""
        with self._lock:
            self._fields.close()
            self._typed.close()
            close_all(self.box)

    def _is_over(self, gate: Gate) -> bool:
        """Whether a gate was read before the decision about it was."""
        return self.decided is not None and gate.generation == self.gate.generation

    def _asking(self, gate: Gate) -> None:
        """Ask, for the first time or again; a gate that is asked in another round begins anew."""
        before, self.gate = self.gate, gate
        if (dict(gate.form), gate.choices) != (dict(before.form), before.choices):
            self._fields.close()
            self._fields = Fields(gate.fields)
            self._make(gate)
        if gate.generation != before.generation or not self._waits:
            self._waits, self.decided = True, None
        show(self._top, value=_top(gate, is_named=self._is_named))
        self._enable()

    def _over(self) -> None:
        """Say who decided; a gate that another signal woke comes back soon, so this is looked up once it is known."""
        self._waits = False
        if self.decided is None:
            decisions = decisions_in(self.run.engine.database, self.run.id, self.gate.stage_id)
            self.decided = last_of([each for each in decisions if each.at >= (self.gate.since or 0)])
        self._enable()

    def _look_for_answer(self) -> None:
        decisions = decisions_in(self.run.engine.database, self.run.id, self.gate.stage_id)
        answer = answer_to(decisions, self._pending)
        if answer is None:
            return
        self._pending = ""
        if answer.refused:
            self._alert = _sentence(why_refused(answer, decisions))
        elif self._sent == self.gate.generation:
            self.decided = answer

    def _enable(self) -> None:
        can_decide = self._waits and not self._pending
        self._fields.enable(enabled=can_decide)
        for button in self.buttons.values():
            show(button, disabled=not can_decide)
        for part in (self._top, self._row, *self._fields.widgets):
            hide(part, hidden=not self._waits)

    def _say(self, now: int) -> None:
        alert = _ALERT.format(self._alert) if self._alert else Markup()
        show(self._said, value=_SAID.format(alert + self._outcome(), self._remark(now)))

    def _outcome(self) -> Markup:
        if self._waits:
            return Markup()
        if self.decided is None:
            return _DECIDED.format(LOOKS[S.CANCELED].symbol, f"{shorten(self.gate.name)} does not wait any more", "")
        look = LOOKS[S.TERMINAL if self.decided.choice in {REJECT, "deadline", FAIL} else S.SUCCEEDED]
        told = [shorten(str(value)) for name, value in self.decided.data.items() if name in _TOLD and value]
        words = f"{shorten(self.gate.name)} was {who_and_when(self.decided)}"
        return _DECIDED.format(look.symbol, words, "".join(f" “{each}”" for each in dict.fromkeys(told)))

    def _remark(self, now: int) -> str:
        if not self._waits:
            return ""
        if self._pending:
            return "recording …"
        who = settings().who
        remarks = [f"will be recorded as {who}" if who else "will be recorded without a name"]
        return " · ".join([*remarks, *deadline_words(self.gate, now)])

    # -- deciding ---------------------------------------------------------------------------------

    def _make(self, gate: Gate) -> None:
        for button in self.buttons.values():
            close_all(button)
        self.buttons = {choice: self._button(choice) for choice in gate.choices}
        self._row.children = tuple(self.buttons.values())
        self.box.children = (self._top, *self._fields.widgets, self._row, self._said)
        hear_at_once(self.box)

    def _button(self, choice: str) -> w.Button:
        words = shorten(choice.replace("_", " "))
        button = w.Button(
            description=words[:1].upper() + words[1:], button_style=_STYLES.get(choice, "info"),
            tooltip=f"{words}: {shorten(self.gate.question)}", layout=w.Layout(width="auto", min_width="7em"),
        )  # fmt: skip
        button.on_click(self._clicked(choice))
        return button

    def _clicked(self, choice: str) -> Callable[[w.Button], None]:
        return lambda _: self._press(choice)

    def _press(self, choice: str) -> None:
        """Decide about what is shown now, once all has come that was typed."""
        with self._lock:
            if self._begin():
                gate = self.gate
                self._typed.when_all_has_come(lambda: self._send(gate, choice))

    def decide(self, choice: str) -> None:
        """Send a decision with what was filled in; what is wrong with it is said, and nothing is sent."""
        with self._lock:
            if self._begin():
                self._send(self.gate, choice)

    def _begin(self) -> bool:
        """Return whether a decision can be sent now, and let nobody send another."""
        if self._pending or not self._waits:
            return False
        self._alert = ""
        self._pending = "…"
        self._enable()
        return True

    def _send(self, gate: Gate, choice: str) -> None:
        with self._lock:
            try:
                data = {**self._fields.filled(choice), "user": settings().who}
                self._sent = gate.generation
                self._pending = self.run.decide(gate, choice, **data)
            except StabilizeError as error:
                self._pending, self._alert = "", _sentence(str(error))
                self._enable()
            self._say(self.run.engine.database.clock())


#: Of the data of a decision, what is shown beside who and when.
_TOLD: Final = ("note", "reason")


def _top(gate: Gate, *, is_named: bool) -> Markup:
    look = LOOKS[S.SUSPENDED]
    of_run = _OF_RUN.format(shorten(gate.run_name), gate.run_id) if is_named else ""
    shown = _SHOWN.format(preview(gate.show)) if gate.show is not None else Markup()
    question = visible(gate.question[:QUESTION]) or "Go on?"
    return _TOP.format(look.stroke, look.symbol, shorten(gate.name), of_run, question, shown)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
