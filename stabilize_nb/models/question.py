"""
Questions that a body asks people.

A question ends the body. With the answer it is run again, finds the steps that it has made, and goes on behind the
question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stabilize_nb.models.forms import form_data
from stabilize_nb.models.gate import APPROVE, REJECT
from stabilize_nb.models.values import EMPTY, plain


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
