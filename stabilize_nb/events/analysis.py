"""
`df.workflow`: what frames of events say of the way the work went.

Registered with pandas when the first frame of this package is made; `import stabilize_nb.events.analysis` does it for a
frame that comes from elsewhere. pandas looks for accessors before it looks for columns, in frames of everybody: one
with a column `workflow` that is no frame of events goes on to have that column as its attribute.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stabilize_nb.errors import ConfigError
from stabilize_nb.events.exchange import PROCESS_MINING, activities, write_ocel, write_xes
from stabilize_nb.events.firings import Doing, Firing, RunPast, critical_path, pasts_of
from stabilize_nb.events.frame_rows import COLUMNS
from stabilize_nb.events.frames import DURATION, Column, frame_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

NAME: Final = "workflow"

VARIANTS = (
    Column("workflow", "string", "name of the workflow"),
    Column("variant", "string", "the stages in the order in which they ended"),
    Column("count", "int64", "runs that went this way"),
    Column("share", "float64", "of the runs of the workflow"),
    Column("example", "string", "id of the first run that did"),
)

DURATIONS = (
    Column("workflow", "string", "name of the workflow"),
    Column("stage", "string", "ref_id of the stage, with all its activations; an activity with all its instances"),
    Column("count", "int64", "how often it ran"),
    *(
        Column(f"{doing}_{figure}", DURATION, f"{meaning} of the time that it was {doing}")
        for doing in Doing
        for figure, meaning in (("p50", "median"), ("p95", "95th percentile"), ("max", "longest"), ("total", "sum"))
    ),
)

BOTTLENECKS = (
    Column("workflow", "string", "name of the workflow"),
    Column("stage", "string", "ref_id of the stage, as in the frame of durations"),
    Column("share", "float64", "of the time of all runs, how much they waited for the end of this stage"),
    Column("runs", "int64", "runs that waited for it"),
    *(Column(doing, DURATION, f"what it was {doing} while they did") for doing in Doing),
    Column("why", "string", "this in a sentence"),
)

FRAMES = {"variants": VARIANTS, "durations": DURATIONS, "bottlenecks": BOTTLENECKS, "process_mining": PROCESS_MINING}

_DOING: Final = {
    Doing.QUEUED: "queued for a worker, a lock or its next try",
    Doing.RUNNING: "at work",
    Doing.WAITING: "waiting for a person, a signal or a child workflow",
}


class WorkflowAccessor:
    """
    Analysis of a frame of events: `run.events`, several of them one under the other, `stabilize_nb.events(store)`.

    Rows may be in any order. A stage counts from the moment when it could begin until its end, and is one of three
    things all the while: queued, running, or waiting for somebody. What a fork has taken over is part of its way, but
    its time is that of the run that did it. Raises ConfigError when the frame is none of events.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def __repr__(self) -> str:
        missing = _missing(self._frame)
        if missing:
            return f"no frame of events: it has no column {', '.join(missing)}"
        what = f"{len(self._frame):,} events of {self._frame['run_id'].nunique():,} runs"
        return f"analysis of {what}: {', '.join(f'{name}()' for name in dir(self) if not name.startswith('_'))}"

    def variants(self) -> pd.DataFrame:
        """
        Frame of the ways that runs went, the most frequent first; columns: `VARIANTS`.

        A way is the order in which stages ended; one that failed or jumped has that beside its name. Stages that were
        skipped or cancelled are left out, and so are runs in which no stage has ended.
        """
        ways: Counter[tuple[str, str]] = Counter()
        examples: dict[tuple[str, str], str] = {}
        for past in self._pasts():
            if way := " → ".join(_ends(past)):
                ways[past.workflow, way] += 1
                examples.setdefault((past.workflow, way), past.run_id)
        runs: Counter[str] = Counter()
        for (workflow, _), count in ways.items():
            runs[workflow] += count
        rows = ((*way, count, count / runs[way[0]], examples[way]) for way, count in ways.most_common())
        return frame_of(VARIANTS, rows)

    def durations(self) -> pd.DataFrame:
        """
        Frame of how long stages took, one row a stage, the longest in total first; columns: `DURATIONS`.

        What a stage was queued, running and waiting adds up to the time from when it could begin to its end. It was
        running while a body was at work; pauses between tries count as queued.
        """
        rows = []
        for (workflow, stage), firings in _by_stage(self._pasts()).items():
            spent = [[firing.total(doing) for firing in firings] for doing in Doing]
            rows.append((workflow, stage, len(firings), *(figure for each in spent for figure in _figures(each))))
        totals = [at for at, column in enumerate(DURATIONS) if column.name.endswith("_total")]
        return frame_of(DURATIONS, sorted(rows, key=lambda row: -sum(row[at] for at in totals)))

    def bottlenecks(self) -> pd.DataFrame:
        """
        Frame of the stages that runs waited for, the largest share of the time first; columns: `BOTTLENECKS`.

        Of a run this is the critical path (`firings.critical_path`): the stage that ended last, the one whose end let
        it begin, and so on back to the start. A stage beside that path could have taken longer at no cost; to hasten
        one on it hastens the run, until another path is the longest.
        """
        pasts = self._pasts()
        whole: Counter[str] = Counter()
        runs: Counter[str] = Counter()
        critical: dict[tuple[str, str], list[Firing]] = {key: [] for key in _by_stage(pasts)}
        waited: Counter[tuple[str, str]] = Counter()
        for past in pasts:
            path = critical_path(past)
            whole[past.workflow] += max([past.end, *(firing.end for firing in path)]) - past.begin
            runs[past.workflow] += 1
            for firing in path:
                critical[past.workflow, firing.name].append(firing)
            waited.update({(past.workflow, firing.name) for firing in path})
        rows = []
        for key, firings in critical.items():
            spent = [sum(firing.total(doing) for firing in firings) for doing in Doing]
            share = sum(spent) / (whole[key[0]] or 1)
            rows.append((*key, share, waited[key], *spent, _why(share, waited[key], runs[key[0]], spent)))
        return frame_of(BOTTLENECKS, sorted(rows, key=lambda row: -row[2]))

    def timeline(self) -> Any:
        """Return a Gantt chart, as picture in a notebook and as `svg`: a lane for each stage, time from the start."""
        return import_module("stabilize_nb.notebook.timeline").Timeline(self._pasts())

    def process_mining(self) -> pd.DataFrame:
        """
        Frame with the column names of process mining, one row a transition of a stage; columns: `PROCESS_MINING`.

        A run is a case, a stage an activity, and a run of a stage an instance of it; a stage that never began has none.
        Source: IEEE 1849, extensions Concept, Time, Lifecycle (standard model) and Organizational.
        """
        rows = ((*row[:2], row[2].at, row[2].transition, row[3], row[2].by) for row in activities(self._pasts()))
        return frame_of(PROCESS_MINING, rows)

    def to_xes(self, path: str | os.PathLike[str]) -> None:
        """Write the rows of `process_mining` as XES (IEEE 1849): a trace for each run, in time that is UTC."""
        write_xes(self._pasts(), path)

    def to_ocel(self, path: str | os.PathLike[str]) -> None:
        """Write every event as OCEL 2.0 JSON, with what it is about: workflow, stage and task are objects."""
        self._check()
        write_ocel(self._frame, path)

    def _pasts(self) -> list[RunPast]:
        self._check()
        return pasts_of(self._frame)

    def _check(self) -> None:
        missing = _missing(self._frame)
        if missing:
            raise ConfigError(
                f"this is no frame of events, it has no column {', '.join(missing)}: df.workflow takes run.events, "
                "pd.concat of several of them, or stabilize_nb.events(store)"
            )


class _Attribute:
    """The attribute `workflow` of frames. What pandas puts there keeps what it was once, which a column must not."""

    def __get__(self, frame: pd.DataFrame | None, owner: type | None = None) -> Any:
        if frame is None:
            return WorkflowAccessor
        return frame[NAME] if NAME in frame and _missing(frame) else WorkflowAccessor(frame)

    def __set__(self, frame: pd.DataFrame, value: Any) -> None:
        if NAME not in frame:
            raise AttributeError(
                "df.workflow is the analysis of events; a column of this name is made by df['workflow']"
            )
        frame[NAME] = value


pd.api.extensions.register_dataframe_accessor(NAME)(WorkflowAccessor)
setattr(pd.DataFrame, NAME, _Attribute())


def _missing(frame: pd.DataFrame) -> list[str]:
    return [name for name in COLUMNS if name not in frame]


def _ends(past: RunPast) -> Iterator[str]:
    remarks = {"SUCCEEDED": "", "TERMINAL": " (failed)", "FAILED_CONTINUE": " (failed)", "REDIRECT": " (jumped)"}
    firings = [*past.taken_over, *past.firings]
    ended = [firing for firing in firings if firing.ended is not None and firing.status in remarks]
    for firing in sorted(ended, key=lambda firing: firing.steps[-1].sequence):
        yield firing.name + remarks[firing.status]


def _by_stage(pasts: Iterable[RunPast]) -> dict[tuple[str, str], list[Firing]]:
    found: dict[tuple[str, str], list[Firing]] = {}
    for past in pasts:
        for firing in past.firings:
            found.setdefault((past.workflow, firing.name), []).append(firing)
    return found


def _figures(spent: list[int]) -> tuple[int, int, int, int]:
    half, most = np.percentile(spent, [50, 95])
    return round(half), round(most), max(spent), sum(spent)


def _why(share: float, waited: int, runs: int, spent: list[int]) -> str:
    if not waited:
        return "no run waited for it: all it did went on beside something longer"
    most = max(range(len(spent)), key=spent.__getitem__)
    part = f", {_part(spent[most] / sum(spent))} {_DOING[[*Doing][most]]}" if sum(spent) else ""
    return f"{waited} of {runs} run{'s' * (runs != 1)} waited for it, {share:.0%} of the time{part}"


def _part(share: float) -> str:
    return "all of it" if share > 0.995 else f"{share:.0%} of it"  # noqa: PLR2004 - what would be shown as 100%
