"""Runs as a frame that a narrow terminal can show: its text is a table, where pandas would leave columns out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from stabilize_nb.models.status import WorkflowStatus
from stabilize_nb.notebook.looks import LOOKS, shorten
from stabilize_nb.notebook.standing import owner_line
from stabilize_nb.notebook.tables import Table, duration
from stabilize_nb.plain import obeyed_by_none

if TYPE_CHECKING:
    from collections.abc import Collection

    from stabilize_nb.engine import Engine

#: Ended runs that are listed unless all are asked for.
RECENT: Final = 20
LISTED: Final = ["run_id", "name", "status", "created", "duration", "note"]
#: What its text is headed by, and how wide a note is in it.
SHOWN: Final = ("run", "workflow", "status", "created", "took", "note")
COLUMNS: Final = 60
WAITS: Final = "waits for a decision"


class ShownFrame(pd.DataFrame):
    """A frame whose text no terminal obeys; what is taken out of it is a plain frame again."""

    def __repr__(self) -> str:
        return obeyed_by_none(super().__repr__())


class RunList(ShownFrame):
    """A frame of runs."""

    def __repr__(self) -> str:
        if list(self.columns) != LISTED:
            return super().__repr__()
        if self.empty:
            return "no runs"
        return Table(SHOWN, [_row(row) for row in self.values]).text()


def _row(row: Any) -> list[str]:
    run_id, name, status, created, took, note = row
    waits = note.startswith(WAITS)
    look = LOOKS[WorkflowStatus.SUSPENDED if waits else WorkflowStatus[str(status)]]
    ms = None if pd.isna(took) else round(took.total_seconds() * 1_000)
    when = f"{created:%Y-%m-%d %H:%M}"
    return [run_id, name, f"{look.symbol} {look.word}", when, duration(ms), shorten(note, COLUMNS)]


def listed(
    engine: Engine, name: str | None = None, *, everything: bool = False, only: Collection[str] | None = None
) -> RunList:
    """Return the runs that have not ended and the newest of those that have, or all, or `only` those with these ids.

    `note` says what they wait for.
    """
    runs = engine.runs(name)
    if only is not None:
        runs = runs[runs["run_id"].isin(only)].reset_index(drop=True)
    elif not everything:
        runs = runs[runs["finished"].isna() | (runs.index < RECENT)].reset_index(drop=True)
    gates: dict[str, list[str]] = {}
    for gate in engine.inbox():
        gates.setdefault(gate.run_id, []).append(gate.name)
    runs["note"] = [
        _note(engine, run_id, gates.get(run_id, []), error, is_open=pd.isna(finished))
        for run_id, error, finished in zip(runs["run_id"], runs["error"], runs["finished"], strict=True)
    ]
    return RunList(runs[LISTED])


def _note(engine: Engine, run_id: str, gates: list[str], error: Any, *, is_open: bool) -> str:
    if not is_open:
        return error if isinstance(error, str) else ""
    waits = f"{WAITS}: {', '.join(gates)}" if gates else ""
    return "; ".join(filter(None, [waits, owner_line(engine.run(run_id))]))
