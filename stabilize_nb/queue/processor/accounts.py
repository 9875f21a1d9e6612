"""What is left of the budgets that a run spends of: reserved before a call, charged with its answer, exact in between.

A run spends of its own budget and of those of the runs that called it. What was reserved for a call whose process died
counts as spent as soon as the call is made again: the server may have answered it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stabilize_nb.models.budget import Budget
from stabilize_nb.models.calls import USD, BudgetExceededError, BudgetHeldError, Terms, Usage
from stabilize_nb.models.question import Question
from stabilize_nb.store.codec import loads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stabilize_nb.store.connection import Connection

#: A form by which a person gives more.
MORE = {"usd": "float?", "tokens": "int?", "calls": "int?"}


class Account(NamedTuple):
    """A budget and what was taken of it; costs in 1/1,000,000,000 USD."""

    workflow_id: str
    budget: Budget
    call_limit: int | None
    token_limit: int | None
    cost_limit: int | None
    calls: int
    tokens: int
    cost: int
    held_tokens: int
    held_cost: int

    @property
    def terms(self) -> Terms:
        """What it says about a call."""
        return Terms(
            output_tokens=self.budget.answer_tokens, prices=self.budget.prices, priced=self.budget.usd is not None
        )

    def spent(self) -> str:
        """Say what was spent of each limit."""
        parts = [
            _part(self.cost / USD, _or_none(self.cost_limit, USD), "USD"),
            _part(self.tokens, self.token_limit, "tokens"),
            _part(self.calls, self.call_limit, "calls"),
        ]
        return ", ".join(part for part in parts if part)

    def is_used_up(self) -> bool:
        """Whether nothing is left even if all that is reserved came back."""
        limits = ((self.call_limit, self.calls), (self.token_limit, self.tokens), (self.cost_limit, self.cost))
        return any(limit is not None and spent >= limit for limit, spent in limits)

    def is_reserved(self) -> bool:
        """Whether nothing is left until some of what is reserved comes back."""
        held = ((self.token_limit, self.tokens + self.held_tokens), (self.cost_limit, self.cost + self.held_cost))
        return any(limit is not None and taken >= limit for limit, taken in held)


def _or_none(limit: int | None, unit: int) -> float | None:
    return None if limit is None else limit / unit


def _part(spent: float, limit: float | None, unit: str) -> str:
    return "" if limit is None else f"{spent:,.10g} of {limit:,.10g} {unit}"


def accounts_over(connection: Connection, workflow_id: str) -> list[Account]:
    """Return the budgets that a run spends of, its own first."""
    rows = connection.all("budgets_over", {"workflow_id": workflow_id})
    return [_opened(connection, row) for row in rows]


def _opened(connection: Connection, row: Sequence[Any]) -> Account:
    id_, text, *taken, is_open = row
    budget = Budget.read(loads(text))
    if is_open:
        return Account(id_, budget, *taken)
    cost = None if budget.usd is None else round(budget.usd * USD)
    return Account(id_, budget, budget.calls, budget.tokens, cost, *taken[3:])


def open_accounts(connection: Connection, accounts: Sequence[Account]) -> None:
    """Write what was never spent of."""
    for account in accounts:
        limits = {name: getattr(account, name) for name in ("call_limit", "token_limit", "cost_limit")}
        connection.run("open_account", {"workflow_id": account.workflow_id, **limits})


def refuse(accounts: Sequence[Account], place: str) -> None:
    """Raise BudgetExceededError when a budget is used up, BudgetHeldError when what is left is reserved."""
    for account in accounts:
        if account.is_used_up():
            spent = account.spent()
            question = None
            if account.budget.at_limit == "ask":
                question = Question(message=f"The budget is used up ({spent}). How much more?", form=MORE)
            raise BudgetExceededError(
                f"{place} did not call a model: the budget of run {account.workflow_id} is used up ({spent})", question
            )
        if account.is_reserved():
            raise BudgetHeldError(f"{place} waits: what is left of the budget is reserved for calls that are at work")


def charge(connection: Connection, accounts: Sequence[Account], *, calls: int = 0, spent: Usage, held: Usage) -> None:
    """Add to what was taken of budgets; negative amounts of `held` are given back."""
    for account in accounts:
        connection.run(
            "charge",
            {
                "workflow_id": account.workflow_id, "calls": calls, "tokens": spent.tokens, "cost": spent.cost or 0,
                "held_tokens": held.tokens, "held_cost": held.cost or 0,
            },
        )  # fmt: skip


def extend(connection: Connection, account: Account, more: Mapping[str, Any]) -> None:
    """Have a budget be larger by what a person filled in; of each limit that it has at least something is left then."""
    connection.run(
        "extend_account",
        {
            "workflow_id": account.workflow_id, "calls": int(more.get("calls") or 0),
            "tokens": int(more.get("tokens") or 0), "cost": round(float(more.get("usd") or 0) * USD),
        },
    )  # fmt: skip
