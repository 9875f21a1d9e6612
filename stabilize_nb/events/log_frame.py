"""
The frame of events, straight from the database into columns.

Very many facts say few different things: of which type they are, with which status and attempt, and what they are
about. Each of these is numbered when it is first seen, decoded and named once, and set out by number for all facts at
once. The documents stay text until they are looked at (events/documents.py). So no fact becomes an object of its own.
"""

from __future__ import annotations

from collections import defaultdict
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any

from stabilize_nb.events.frames import EVENTS, frame_of, series_of, unframed
from stabilize_nb.events.history import STATUS_AFTER, Names
from stabilize_nb.store.codec import dumps, loads
from stabilize_nb.store.rows import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    import pandas as pd

    from stabilize_nb.store.database import Database

    Numbers = np.ndarray[Any, Any]

_COLUMNS = {column.name: column for column in EVENTS}


def events_frame(database: Database, run_id: str) -> pd.DataFrame:
    """
    Frame of the log of a run, one row a fact, in order of `seq`; columns: `frames.EVENTS`.

    A run that is not stored gives an empty frame.
    """
    return _frame(database, "framed_events", {"workflow_id": run_id})


def events_of_many(
    database: Database, application: str | None, name: str | None, since: int | None, runs: Iterable[str] | None
) -> pd.DataFrame:
    """
    Frame of the logs of runs in order of `run_id`, which is that of their making, and `seq`; columns: `frames.EVENTS`.

    Runs of this application, with this name, made at or after `since` (ms since the epoch), with one of these ids.
    """
    ids = None if runs is None else dumps(list(runs))
    params = {"application": application, "name": name, "since": since, "runs": ids}
    return _frame(database, "framed_events_of_many", params)


def _frame(database: Database, query: str, params: Mapping[str, Any]) -> pd.DataFrame:
    try:
        return database.survey(lambda connection: _Log(connection.blocks(query, params))).frame()
    except UNREADABLE as error:
        raise unframed("the log", error) from error


class _Numbers:
    """Numbers values in the order in which they are first seen, and keeps the numbers of all."""

    def __init__(self) -> None:
        self._number_of: defaultdict[Any, int] = defaultdict(count().__next__)
        self._blocks: list[Numbers] = []

    def take(self, values: Iterable[Any]) -> None:
        import numpy as np  # noqa: PLC0415 - comes with pandas

        self._blocks.append(np.fromiter(map(self._number_of.__getitem__, values), "int64"))

    @property
    def distinct(self) -> list[Any]:
        return list(self._number_of)

    @property
    def numbers(self) -> Numbers:
        return _joined(self._blocks, "int64")


class _Log:
    """Facts by columns, with as few objects as there are different things that they say and are about.

    `blocks`: columns of the query `framed_events`, which says the id of a run with the first fact only.
    """

    def __init__(self, blocks: Iterable[Sequence[Sequence[Any]]]) -> None:
        import numpy as np  # noqa: PLC0415 - comes with pandas

        firsts, sequences, times, texts, saids, stages = [], [], [], [], _Numbers(), _Numbers()
        self._runs: list[str] = []
        for first, sequence, at, kind, stage_id, said, data in blocks:
            self._runs += filter(None, first)
            firsts.append(np.fromiter(map(bool, first), "int64", len(first)))
            sequences.append(np.array(sequence, "int64"))
            times.append(np.array(at, "int64"))
            texts.append(np.fromiter(data, object, len(data)))
            saids.take(zip(kind, said, strict=True))
            stages.take(stage_id)
        self._run = np.cumsum(_joined(firsts, "int64")) - 1
        self._sequence, self._at = _joined(sequences, "int64"), _joined(times, "int64")
        self._texts = _joined(texts, "object")
        self._said, self._saids = saids.numbers, [(kind, *_read(said)) for kind, said in saids.distinct]
        self._stage, self._stages = stages.numbers, stages.distinct

    def frame(self) -> pd.DataFrame:
        """Set out what was numbered."""
        import pandas as pd  # noqa: PLC0415 - heavy, and the engine needs none

        documents = import_module("stabilize_nb.events.documents")  # it is made of pandas
        workflows, names = self._names()
        said = ((kind, attempt, _status(kind, status)) for kind, status, attempt, _ in self._saids)
        columns = {
            "seq": self._sequence,
            "time": series_of(_COLUMNS["time"], self._at),
            "data": documents.Documents(self._texts),
            **_set_out(("run_id", "workflow"), ((run, workflows.get(run)) for run in self._runs), self._run),
            **_set_out(("stage", "stage_id"), ((names.refs.get(each), each) for each in self._stages), self._stage),
            **_set_out(("type", "attempt", "status"), said, self._said),
            **self._tasks(names),
        }
        return pd.DataFrame({column.name: columns[column.name] for column in EVENTS}, copy=False)

    def _names(self) -> tuple[dict[str, str], Names]:
        """Return the names of workflows, and of stages and tasks: few logs tell more than the definition has."""
        workflows, names = {}, Names()
        for at in self._facts("workflow.created"):
            fact = loads(self._texts[at])
            workflows[self._runs[self._run[at]]] = fact["definition"]["name"]
            names.learn(fact)
        if not names.refs.keys() >= {*self._stages} - {None}:
            for at in self._facts("join.fired", "instance.added"):
                names.learn(loads(self._texts[at]))
        return workflows, names

    def _facts(self, *kinds: str) -> Numbers:
        """Return where the facts of these types stand."""
        import numpy as np  # noqa: PLC0415 - comes with pandas

        wanted = np.array([said[0] in kinds for said in self._saids], bool)
        return np.flatnonzero(wanted[self._said])

    def _tasks(self, names: Names) -> dict[str, Any]:
        """Return the names of tasks, which stage and position make; for facts about none they make -1."""
        import numpy as np  # noqa: PLC0415 - comes with pandas
        import pandas as pd  # noqa: PLC0415 - heavy, and the engine needs none

        positions = list(dict.fromkeys(position for *_, position in self._saids if position is not None))
        of_said = [-1 if position is None else positions.index(position) for *_, position in self._saids]
        pair = np.array(of_said, "int64")[self._said]
        about_one = pair >= 0
        pair[about_one] += self._stage[about_one] * len(positions)
        numbers, pairs = pd.factorize(pair)
        places = (None if each < 0 else divmod(each, len(positions)) for each in pairs.tolist())
        told = (place and names.task(self._stages[place[0]], positions[place[1]]) for place in places)
        return _set_out(("task",), ((each,) for each in told), numbers)


def _read(said: str | None) -> tuple[str | None, int | None, int | None]:
    """Return status, attempt and position as a document says them."""
    status, attempt, position = (None, None, None) if said is None else loads(said)
    return status, attempt, position


def _status(kind: str, said: str | None) -> str | None:
    """Return the status after a fact: a run that is ending has no new one yet."""
    return None if kind == "workflow.ending" else said or STATUS_AFTER.get(kind)


def _set_out(names: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Numbers) -> dict[str, Any]:
    """Return columns with the items of the rows of these numbers."""
    distinct = frame_of([_COLUMNS[name] for name in names], rows)
    return {name: distinct[name].array.take(numbers) for name in names}


def _joined(blocks: Sequence[Numbers], dtype: str) -> Numbers:
    """Return one array of many, or an empty one."""
    import numpy as np  # noqa: PLC0415 - comes with pandas

    return np.concatenate(blocks) if blocks else np.empty(0, dtype)
