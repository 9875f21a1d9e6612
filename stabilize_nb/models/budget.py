"""What a workflow may spend on models: money, tokens, calls. The workflows that it calls spend of it too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.values import EMPTY

#: Under which key the context of a workflow has its budget.
BUDGET: Final = "_budget"
AtLimit = Literal["stop", "ask"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits for all model calls of a run together: `usd`, `tokens` (read and written), `calls`; None: no limit.

    What a call can take at most is reserved before it is made, and what it took is charged with its answer. A call is
    made while there is something left, so at most the last one goes over a limit. `at_limit`: "stop", the stage fails
    with a BudgetExceededError, or "ask", it waits for a person, who may give more.

    `answer_tokens`: tokens that an answer may have at most, which the server is told; without it nothing could be
    reserved. `prices`: model -> USD for a million tokens read, and written; what is not there is looked up in the
    package genai-prices where it is installed.

    Raises ConfigError for a limit that is none.

    For example:

        >>> from stabilize_nb import Budget, Flow
        >>> analyst = Flow("analyst", budget=Budget(usd=0.50, calls=20, at_limit="ask"))
    """

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None
    at_limit: AtLimit = "stop"
    answer_tokens: int = 4_096
    prices: Mapping[str, tuple[float, float]] = field(default_factory=lambda: EMPTY)

    def __post_init__(self) -> None:
        limits = {"usd": self.usd, "tokens": self.tokens, "calls": self.calls}
        for name, limit in limits.items():
            kinds: tuple[type, ...] = (int, float) if name == "usd" else (int,)
            is_number = isinstance(limit, kinds) and not isinstance(limit, bool)
            if limit is not None and not (is_number and math.isfinite(limit) and limit > 0):
                raise ConfigError(f"Budget({name}={limit!r}): a number above 0 is expected, or None for no limit")
        if all(limit is None for limit in limits.values()):
            raise ConfigError("Budget() limits nothing: give usd=, tokens= or calls=")
        if self.at_limit not in get_args(AtLimit):
            words = ", ".join(map(repr, get_args(AtLimit)))
            raise ConfigError(f"Budget(at_limit={self.at_limit!r}) is not known; write one of {words}")
        if self.answer_tokens < 1:
            raise ConfigError(f"Budget(answer_tokens={self.answer_tokens!r}): a whole number from 1 is expected")

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON data, as the context of a workflow has it."""
        prices = {model: [*map(float, pair)] for model, pair in self.prices.items()}
        return {
            "usd": self.usd, "tokens": self.tokens, "calls": self.calls, "at_limit": self.at_limit,
            "answer_tokens": self.answer_tokens, "prices": prices,
        }  # fmt: skip

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Budget:
        """Return what `as_data` wrote."""
        return cls(**{**data, "prices": {model: tuple(pair) for model, pair in data["prices"].items()}})
