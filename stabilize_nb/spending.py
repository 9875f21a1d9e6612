"""What a run has spent of its budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stabilize_nb.models.calls import USD
from stabilize_nb.queue.processor.accounts import Account, accounts_over

if TYPE_CHECKING:
    from stabilize_nb.store.database import Database


@dataclass(frozen=True, slots=True)
class Spending:
    """What model calls have taken, those of called workflows too; `reserved_tokens` is what calls at work may take.

    `usd` and `tokens` count also what was reserved for calls of which nobody knows what became of them. The limits are
    those of the budget and what people have added to it; None: no limit.
    """

    usd: float
    tokens: int
    calls: int
    reserved_usd: float
    reserved_tokens: int
    usd_limit: float | None
    token_limit: int | None
    call_limit: int | None
    told: str

    def __str__(self) -> str:
        return self.told


def spending_of(database: Database, run_id: str) -> Spending | None:
    """Return what was spent of the budget of a run; None when it has none."""
    accounts = database.call_read(lambda connection: accounts_over(connection, run_id))
    return next((_spending(account) for account in accounts if account.workflow_id == run_id), None)


def _spending(account: Account) -> Spending:
    limit = account.cost_limit
    return Spending(
        usd=account.cost / USD, tokens=account.tokens, calls=account.calls, reserved_usd=account.held_cost / USD,
        reserved_tokens=account.held_tokens, usd_limit=None if limit is None else limit / USD,
        token_limit=account.token_limit, call_limit=account.call_limit, told=account.spent(),
    )  # fmt: skip
