"""
Calls of models and tools: steps of a body that cost something.

A call is noted before it is made and again with its answer, so that it is known what was paid for, whatever crashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from stabilize_nb.errors import PermanentError, StabilizeError, TransientError
from stabilize_nb.models.question import Answer, Question
from stabilize_nb.models.settling import RETRY
from stabilize_nb.models.values import EMPTY

#: One dollar in the unit of costs: a cost is a whole number, so that sums are exact.
USD: Final = 1_000_000_000
#: What is said of a call of which nothing came, and nobody knows whether it was carried out.
LOST: Final = "outcome unknown: its process died, or nobody waited for it any more"
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


class RefusedError(PermanentError):
    """The server has refused a call for good, so that nothing is charged for it."""

    refused = True


class RefusedForNowError(TransientError):
    """The server has refused a call for now, so that nothing is charged for it."""

    refused = True


class BudgetExceededError(PermanentError):
    """The budget of the workflow is used up; the call was not made. `question`: what to ask a person about it."""

    page = "agents.md"

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
