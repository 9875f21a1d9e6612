"""Waiting for gates of runs that go on in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stabilize_nb import Run
    from stabilize_nb.gates import Gate


def next_gate(run: Run, before: Gate | None = None) -> Gate:
    """Return the gate that waits, when it asks something else than one before."""
    while True:
        ticket = run.engine.database.changes.ticket()
        (gate,) = run.until_gate(10)
        if before is None or gate.fingerprint != before.fingerprint:
            return gate
        ticket.wait(1)
