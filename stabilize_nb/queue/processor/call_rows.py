"""Calls of models and tools in the journal, inside a transaction: begun and reserved, then settled and charged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stabilize_nb.models.calls import LOST, Usage
from stabilize_nb.queue.processor.accounts import accounts_over, charge, open_accounts, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stabilize_nb.models.calls import Call, Terms
    from stabilize_nb.queue.processor.accounts import Account
    from stabilize_nb.store.connection import Connection

NOTHING: Final = Usage()
#: What a row says of a step that is no call, or of a call that is at work.
BLANK: Final[dict[str, Any]] = {
    "made": 1, "kind": "step", "target": None, "value": None, "error": None, "input_tokens": None,
    "output_tokens": None, "cost": None, "held_tokens": 0, "held_cost": 0,
}  # fmt: skip
_LATE: Final = "the answer came when nobody waited for it any more"


class CallRow:
    """The row of one call: `key` is that of its step, `owner` the run that pays for it and the ref_id of the stage."""

    def __init__(self, connection: Connection, owner: dict[str, Any], key: dict[str, Any], attempt: int) -> None:
        self._connection = connection
        self._owner = owner
        self._key = key
        self._attempt = attempt

    def begin(self, call: Call, now: int, place: str) -> Terms | None:
        """
        Write that it is about to be made, and reserve what it may take; return the terms of its budget.

        Raises BudgetExceededError, and BudgetHeldError when what is left is reserved.
        """
        accounts = self._accounts() if call.kind == "model" else []
        open_accounts(self._connection, accounts)
        if self._own() is not None:  # a commit stood that was said to have failed
            return accounts[0].terms if accounts else None
        found = self._connection.one("open_call", self._key)
        if found is not None:
            self._give_up(self._key | {"made": found[0]}, Usage(output_tokens=found[1], cost=found[2]), now)
            accounts = self._accounts() if accounts else []
        refuse(accounts, place)
        reserved = [call.reserve(account.terms) for account in accounts]
        held = max(reserved, key=lambda usage: usage.tokens, default=NOTHING)
        charge(self._connection, accounts, calls=1, spent=NOTHING, held=held)
        before = self._connection.one("times_made", self._key)
        row = {
            "made": 1 + (before[0] if before else 0), "kind": call.kind, "target": call.target, "begun_at": now,
            "at": None, "held_tokens": held.tokens, "held_cost": held.cost or 0, "attempt": self._attempt,
        }  # fmt: skip
        self._connection.run("insert_journal", BLANK | self._owner | self._key | row)
        return accounts[0].terms if accounts else None

    def settle(self, call: Call, used: Usage, text: str | None, *, begun: int, now: int) -> None:
        """
        Write its answer, and charge what it took instead of what was reserved.

        `text` None: nobody waits for the answer any more, but it was paid for.
        """
        taken = {
            "input_tokens": used.input_tokens or None, "output_tokens": used.output_tokens or None, "cost": used.cost,
            "held_tokens": 0, "held_cost": 0, "value": text, "at": now, "error": _LATE if text is None else None,
        }  # fmt: skip
        found = self._own()
        if found is not None:
            made, held_tokens, held_cost = found
            back = Usage(output_tokens=-held_tokens, cost=-held_cost)
            charge(self._connection, self._accounts(), spent=used, held=back)
            self._connection.run("settle_call", self._key | taken | {"made": made})
        elif text is not None:
            row = {"kind": call.kind, "target": call.target, "begun_at": begun, "attempt": self._attempt}
            self._connection.run("insert_journal", BLANK | self._owner | self._key | taken | row)

    def fail(self, error: str, now: int, *, is_refused: bool) -> None:
        """Write that it failed: what was reserved is given back if the server refused it, and else counts as spent."""
        found = self._own()
        if found is not None:
            made, held_tokens, held_cost = found
            held = Usage(output_tokens=held_tokens, cost=held_cost)
            self._give_up(self._key | {"made": made}, held, now, error, NOTHING if is_refused else held)

    def clear(self, now: int) -> bool:
        """Count as spent what is reserved for bodies of the run that are not at work; return whether there was any."""
        left = self._connection.all("left_calls", {"workflow_id": self._owner["workflow_id"]})
        for stage_id, call, name, number, made, held_tokens, held_cost in left:
            row = {"stage_id": stage_id, "call": call, "name": name, "number": number, "made": made}
            self._give_up(row, Usage(output_tokens=held_tokens, cost=held_cost), now)
        return bool(left)

    def _give_up(
        self, row: dict[str, Any], held: Usage, now: int, error: str = LOST, spent: Usage | None = None
    ) -> None:
        """Count as spent what was reserved for a call of which nothing came: the server may have answered it."""
        spent = held if spent is None else spent
        back = Usage(output_tokens=-held.tokens, cost=-(held.cost or 0))
        charge(self._connection, self._accounts(), spent=spent, held=back)
        state = {
            "value": None, "error": error, "input_tokens": None, "output_tokens": None, "cost": spent.cost or None,
            "held_tokens": spent.tokens, "held_cost": spent.cost or 0, "at": now,
        }  # fmt: skip
        self._connection.run("settle_call", row | state)

    def _own(self) -> Sequence[Any] | None:
        return self._connection.one("own_call", self._key | {"attempt": self._attempt})

    def _accounts(self) -> list[Account]:
        return accounts_over(self._connection, self._owner["workflow_id"])
