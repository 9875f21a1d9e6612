"""
Steps of a body that cost something or ask somebody: calls of models and tools, and questions to people.

A call is noted before it is made and again with its answer, so that it is known what was paid for, whatever crashes.
A question ends the body; with the answer it is run again, finds the steps it has made, and goes on behind the question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from stabilize_nb.errors import PermanentError, StabilizeError, TransientError
from stabilize_nb.models.forms import form_data
from stabilize_nb.models.gate import APPROVE, REJECT
from stabilize_nb.models.settling import RETRY
from stabilize_nb.models.values import EMPTY, plain

#: One dollar in the unit of costs: a cost is a whole number, so that sums are exact.
USD: Final = 1_000_000_000
Kind = Literal["model", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a call took. `cost`: in 1/1,000,000,000 USD; None: nobody knows the price."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: int | None = None

    @property
    def tokens(self) -> int:
        """Both kinds of tokens."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the budget that a call is charged to says about it.

    `output_tokens`: that an answer may have at most. `prices`: model -> USD for a million tokens read, and written.
    `priced`: whether the budget limits money, so that every call needs a price.
    """

    output_tokens: int
    prices: Mapping[str, tuple[float, float]] = field(default_factory=lambda: EMPTY)
    priced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call as a step: `make` makes it, and may be a coroutine function; it gets the terms of the budget, or None.

    `name` is that of the step, `target` that of the model or tool. `reserve(terms)`: the most it can take. `measure`:
    what it took, by its answer. `on_crash="ask"`: a person, who sees `shown`, says what became of it when its process
    died meanwhile.
    """

    kind: Kind
    name: str
    target: str
    make: Callable[[Terms | None], Any]
    reserve: Callable[[Terms], Usage] = lambda _terms: Usage()
    measure: Callable[[Terms | None, Any], Usage] = lambda _terms, _answer: Usage()
    on_crash: str = RETRY
    shown: Any = None

    @property
    def is_noted(self) -> bool:
        """Whether it is noted before it is made."""
        return self.kind == "model" or self.on_crash != RETRY


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a body asks a person: as a gate asks it (models/gate.py)."""

    message: str
    show: Any = None
    form: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    choices: tuple[str, ...] = (APPROVE, REJECT)

    def asked(self) -> dict[str, Any]:
        """Return what a person sees."""
        return {
            "message": self.message, "show": plain(self.show, "what is shown"), "choices": list(self.choices),
            "form": form_data(f"question {self.message!r:.60}", self.form),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a person decided, and what came with it."""

    choice: str
    data: Mapping[str, Any] = field(default_factory=lambda: EMPTY)

    @property
    def approves(self) -> bool:
        """Whether it is anything but a rejection."""
        return self.choice != REJECT

    @property
    def told(self) -> str:
        """Who rejected, and why."""
        who = self.data.get("user") or "somebody who gave no name"
        return f"rejected by {who}: {self.data.get('reason') or 'no reason given'}"


class WaitsForPerson(BaseException):
    """Ends a body that asks a person. No Exception, so that no `except Exception` of a body keeps it."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        super().__init__("the body waits for a person, who is asked when it has ended: let this exception pass")
        self.asked = dict(asked)


class RefusedError(PermanentError):
    """The server has refused a call for good, so that nothing is charged for it."""

    refused = True


class RefusedForNowError(TransientError):
    """The server has refused a call for now, so that nothing is charged for it."""

    refused = True


class BudgetExceededError(PermanentError):
    """The budget of the workflow is used up; the call was not made. `question`: what to ask a person about it."""

    def __init__(self, message: str, question: Question | None = None) -> None:
        super().__init__(message)
        self.question = question


class BudgetHeldError(StabilizeError):
    """What is left of the budget is reserved for calls at work, which may give some of it back."""


#: What a person may say of a call whose process died while it was made.
OUTCOMES: Final = ("retry", "done", "fail")


def lost_call(call: Call) -> Question:
    """Return the question what became of a call of which nobody knows whether it was carried out."""
    return Question(
        message=f"The process died while {call.target!r} was called; nobody knows what it did. What became of it?",
        show=call.shown, form={"result": "str?"}, choices=OUTCOMES,
    )  # fmt: skip


def outcome_said(place: str, call: Call, answer: Answer) -> Any:
    """Return what the call gave, as a person says; None: it is to be made again. Raises PermanentError if it failed."""
    if answer.choice == "fail":
        who = answer.data.get("user") or "somebody who gave no name"
        raise PermanentError(f"{place}: the call of {call.target!r} failed, says {who}")
    return str(answer.data.get("result") or "") if answer.choice == "done" else None
