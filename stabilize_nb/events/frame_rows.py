"""The frame of events, row by row: for what has to follow a run from fact to fact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pandas as pd


class Row(NamedTuple):
    """One row of the frame of events; `at` is ms since the epoch, what is missing is None."""

    run_id: str
    workflow: str | None
    sequence: int
    at: int
    type: str
    stage: str | None
    stage_id: str | None
    task: str | None
    attempt: int | None
    status: str | None
    data: Mapping[str, Any]


#: Columns of the frame of events, in the order of `Row`.
COLUMNS: Final = ("run_id", "workflow", "seq", "time", "type", "stage", "stage_id", "task", "attempt", "status", "data")


def rows_of(frame: pd.DataFrame, read: Callable[[str], bool]) -> Iterator[Row]:
    """Yield the rows of a frame of events, run by run in order, each once; `data` of the types to be `read`."""
    ordered = frame.drop_duplicates(["run_id", "seq"]).sort_values(["run_id", "seq"], kind="stable")
    columns = [_plain(ordered[name]) for name in COLUMNS if name not in {"time", "data"}]
    columns.insert(COLUMNS.index("time"), ordered["time"].dt.as_unit("ms").astype("int64").tolist())
    wanted = ordered["type"].map({kind: read(kind) for kind in ordered["type"].unique()}).astype(bool)
    told = iter(_plain(ordered.loc[wanted.to_numpy(), "data"]))
    columns.append([next(told) if each else {} for each in wanted])
    return (Row(*row) for row in zip(*columns, strict=True))


def _plain(column: pd.Series[Any]) -> list[Any]:
    cells = column.astype(object)
    return cells.where(column.notna(), None).tolist()
