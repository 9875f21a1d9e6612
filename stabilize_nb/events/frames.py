"""Frames of the log: what happened, as plain pandas.

The schema of each frame is a table of columns, stated once: the code builds from it, `schema` prints it, the tests
read it. Data types are the same with every pandas this package supports. Frames read the log alone, so the
copy of a log can be framed without its store.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stabilize_nb.errors import StoreDamagedError
from stabilize_nb.events.bus import EventType
from stabilize_nb.events.history import History, entries_of
from stabilize_nb.events.signals import sent_in
from stabilize_nb.models.status import WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    import pandas as pd

    from stabilize_nb.queue.queue import DeadLetter
    from stabilize_nb.store.database import Database

TIME = "datetime64[us, UTC]"
DURATION = "timedelta64[us]"
TYPES = tuple(kind.value for kind in EventType)
STATUSES = tuple(status.name for status in WorkflowStatus)
#: How an attempt can end beside the statuses of tasks: failed and tried again, asked to be called again, broken off by
#: the death of its worker, too late.
ATTEMPT_STATUSES = (*STATUSES, "RETRIED", "POLLED", "LOST", "DISCARDED")
#: What can become of a signal: it resumed its stage, is kept until its stage waits, had no effect on its gate, or found
#: nobody.
SIGNAL_STATUSES = ("CONSUMED", "KEPT", "REFUSED", "LOST")


class Column(NamedTuple):
    """A column of a frame. `categories` are those, in order, of one whose dtype is category."""

    name: str
    dtype: str
    meaning: str
    categories: tuple[str, ...] = ()


EVENTS = (
    Column("seq", "int64", "number of the fact in its run, from 1 without gaps"),
    Column("time", TIME, "when it was committed"),
    Column("type", "category", "what happened", TYPES),
    Column("run_id", "string", "id of the run"),
    Column("workflow", "string", "name of the workflow"),
    Column("stage", "string", "ref_id of the stage; missing when it is about the run"),
    Column("stage_id", "string", "id of the stage's row"),
    Column("task", "string", "name of the task, when it is about one"),
    Column("attempt", "Int64", "number of the attempt, when it is about one"),
    Column("status", "category", "status after it of the task, stage or run it is about", STATUSES),
    Column("data", "document", "everything else the fact says: a dict, made when it is looked at"),
)

STAGES = (
    Column("ref_id", "string", "name of the stage in its workflow; `#2` and up for further activations"),
    Column("run", "Int64", "1 for the first run of the stage, one more after each reset"),
    Column("status", "category", "how the run ended, or where it stands", STATUSES),
    Column("queued", TIME, "when its join fired, or else when it was reset or the workflow was started"),
    Column("started", TIME, "when it began; missing when it never did"),
    Column("finished", TIME, "when it ended or was reset; missing while it goes on"),
    Column("wait", DURATION, "from queued to started"),
    Column("duration", DURATION, "from started to finished"),
    Column("attempts", "Int64", "task bodies begun"),
    Column("error", "string", "why it failed"),
    Column("stage_id", "string", "id of the stage's row"),
)

SIGNALS = (
    Column("came", TIME, "when it reached the run"),
    Column("ref_id", "string", "name of the stage that it was sent to"),
    Column("name", "string", "name of the signal"),
    Column("status", "category", "what became of it", SIGNAL_STATUSES),
    Column("kept", "boolean", "whether it came before its stage waited and was kept until then"),
    Column("consumed", TIME, "when it resumed its stage; missing when it did not"),
    Column("wait", DURATION, "from came to consumed"),
    Column("reason", "string", "why it was refused"),
    Column("data", "object", "what it said, as a dict; None where the log does not keep it"),
    Column("seq", "int64", "number of the fact by which it is known first"),
    Column("stage_id", "string", "id of the stage's row"),
)

TASKS = (
    Column("ref_id", "string", "name of the stage in its workflow"),
    Column("run", "Int64", "run of the stage, as in the frame of stages"),
    Column("task", "string", "name of the task"),
    Column("attempt", "Int64", "number of the attempt in that run"),
    Column("status", "category", "how the attempt ended; RUNNING while it is at work", ATTEMPT_STATUSES),
    Column("started", TIME, "when the body was begun"),
    Column("finished", TIME, "when its result was committed, or when it was given up"),
    Column("duration", DURATION, "from started to finished"),
    Column("error", "string", "why it failed or was not taken"),
    Column("stage_id", "string", "id of the stage's row"),
)

RUNS = (
    Column("run_id", "string", "id of the run"),
    Column("name", "string", "name of the workflow"),
    Column("application", "string", "application of the workflow"),
    Column("status", "category", "how it ended, or where it stands", STATUSES),
    Column("created", TIME, "when it was stored"),
    Column("started", TIME, "when its first stages were let go"),
    Column("finished", TIME, "when it ended; missing while it goes on"),
    Column("duration", DURATION, "from started to finished"),
    Column("error", "string", "why it failed"),
)

DEAD_LETTERS = (
    Column("message_id", "string", "id of the message, by which it is put back"),
    Column("run_id", "string", "id of the run that it belongs to"),
    Column("stage", "string", "ref_id of the stage that it is about; missing when it is about none that is stored"),
    Column("kind", "string", "what it asks for"),
    Column("error", "string", "why it could not be processed"),
    Column("attempts", "int64", "how often it was taken"),
    Column("lost", "int64", "how often the body was begun that it asks for, and nothing came of it"),
    Column("died", TIME, "when it became a dead letter"),
    Column("payload", "string", "what it says beside that, as it is stored: JSON text unless it is damaged"),
    Column("stage_id", "string", "id of the stage's row"),
)

#: What became of a call: it was answered, it raised, its process died meanwhile, or it is at work.
CALL_STATUSES: Final = ("answered", "failed", "lost", "open")

CALLS = (
    Column("stage", "string", "ref_id of the stage"),
    Column("kind", "category", "what was called", ("model", "tool")),
    Column("target", "string", "name of the model or tool"),
    Column("status", "category", "what became of it", CALL_STATUSES),
    Column("started", TIME, "when it was begun"),
    Column("finished", TIME, "when what became of it was committed"),
    Column("duration", DURATION, "from started to finished"),
    Column("input_tokens", "Int64", "tokens read, as the server says"),
    Column("output_tokens", "Int64", "tokens written, as the server says"),
    Column("tokens", "Int64", "tokens charged: both, or what was reserved where it is not known"),
    Column("cost", "Float64", "USD charged; missing when nobody knows the price"),
    Column("attempt", "Int64", "number of the attempt of the task that made it"),
    Column("error", "string", "why it was not answered"),
    Column("stage_id", "string", "id of the stage's row"),
)

DECISIONS = (
    Column("seq", "int64", "number of the fact in its run that tells of it"),
    Column("time", TIME, "when it was committed"),
    Column("gate", "string", "ref_id of the stage"),
    Column("choice", "string", 'what was decided: "approve", "reject", another choice, or how it was settled'),
    Column("user", "string", 'who decided; "deadline" when nobody did in time'),
    Column("refused", "string", "why it had no effect; missing when it had"),
    Column("data", "object", "what came with it, as a dict"),
    Column("fingerprint", "string", "of what the gate showed; of a refused one what its maker had seen"),
    Column("decision_id", "string", "id that `run.approve` and the like return"),
    Column("stage_id", "string", "id of the stage's row"),
)

FRAMES = {
    "events": EVENTS, "stages": STAGES, "tasks": TASKS, "signals": SIGNALS, "runs": RUNS, "dead_letters": DEAD_LETTERS,
    "calls": CALLS, "decisions": DECISIONS,
}  # fmt: skip


def schema(frame: str) -> str:
    """Return the columns of a frame, which is one of `FRAMES`, as text, one a line."""
    return "\n".join(f"{column.name:<15}{column.dtype:<22}{column.meaning}" for column in FRAMES[frame])


def stages_frame(database: Database, run_id: str) -> pd.DataFrame:
    """
    Frame of the runs of stages, one row a run, in the order in which they were queued; columns: `STAGES`.

    A stage that was reset by a jump or a restart has one row for each of its runs, a further activation is a stage of
    its own (`ref#2`), and a stage nothing has led to yet has none.
    """
    history = History(entries_of(database, run_id))
    return frame_of(
        STAGES,
        (
            (
                run.ref_id, run.number, run.status, run.queued, run.started, run.finished,
                _between(run.queued, run.started), _between(run.started, run.finished), run.attempts, run.error,
                run.stage_id,
            )
            for run in history.runs
        ),
    )  # fmt: skip


def tasks_frame(database: Database, run_id: str) -> pd.DataFrame:
    """Frame of the attempts of task bodies, one row an attempt, in the order in which they began; columns: `TASKS`."""
    history = History(entries_of(database, run_id))
    return frame_of(
        TASKS,
        (
            (
                each.run.ref_id, each.run.number, each.task, each.number, each.status, each.started, each.finished,
                _between(each.started, each.finished), each.error, each.run.stage_id,
            )
            for each in history.attempts
        ),
    )  # fmt: skip


def signals_frame(database: Database, run_id: str) -> pd.DataFrame:
    """Frame of the signals sent to a run, one row a signal, in the order in which they came; columns: `SIGNALS`."""
    return frame_of(
        SIGNALS,
        (
            (
                each.came, each.ref_id, each.name, each.status, each.kept, each.consumed,
                _between(each.came, each.consumed), each.reason, each.data, each.sequence, each.stage_id,
            )
            for each in sent_in(entries_of(database, run_id))
        ),
    )  # fmt: skip


def runs_frame(headers: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Frame of runs, one row for each header that `WorkflowStore.list` gave, in its order; columns: `RUNS`."""
    return frame_of(
        RUNS,
        (
            (
                run["id"], run["name"], run["application"], run["status"], run["created_at"], run["started_at"],
                run["ended_at"], _between(run["started_at"], run["ended_at"]), run["error"],
            )
            for run in headers
        ),
    )  # fmt: skip


def dead_letters_frame(letters: Iterable[DeadLetter]) -> pd.DataFrame:
    """Frame of messages that could not be processed, one row each, in the order given; columns: `DEAD_LETTERS`."""
    return frame_of(
        DEAD_LETTERS,
        (
            (
                each.id, each.workflow_id, each.ref_id, each.kind, each.error, each.deliveries, each.lost, each.dead_at,
                each.payload, each.stage_id,
            )
            for each in letters
        ),
    )  # fmt: skip


# -- from rows to columns -----------------------------------------------------------------------------


def frame_of(columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """
    Make a frame of rows; times and durations come as ms, None is missing.

    Raises StoreDamagedError when the values of a column are not of its kind.
    """
    import pandas as pd  # noqa: PLC0415 - heavy, and the engine needs none

    import_module("stabilize_nb.events.analysis")  # registers `df.workflow`
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    series = {}
    for column, cells in zip(columns, values, strict=True):
        try:
            series[column.name] = series_of(column, cells)
        except (TypeError, ValueError, OverflowError) as error:
            raise unframed(f"column {column.name!r}", error) from error
    return pd.DataFrame(series)


def unframed(what: str, error: Exception) -> StoreDamagedError:
    """Return the sentence for what cannot be made a frame of."""
    said = f"{what} of a frame cannot be made ({error}): the database is damaged"
    return StoreDamagedError(f"{said}; `stabilize-nb doctor` on its file says more")


def _known(cells: Iterable[str | None], categories: Sequence[str]) -> list[str | None]:
    """Return the cells; what a newer version or a damaged row says is "unknown", or missing."""
    other = "unknown" if "unknown" in categories else None
    known = {None: None} | dict(zip(categories, categories, strict=True))
    return [known.get(cell, other) for cell in cells]


def series_of(column: Column, cells: Sequence[Any] | np.ndarray[Any, Any]) -> pd.Series[Any]:
    """Return cells as a column; times and durations come as ms, None is missing."""
    import numpy as np  # noqa: PLC0415 - comes with pandas
    import pandas as pd  # noqa: PLC0415 - heavy, and the engine needs none

    match column.dtype:
        case "category":
            return pd.Series(pd.Categorical(_known(cells, column.categories), categories=list(column.categories)))
        case _ if column.dtype == TIME:
            at = np.array(cells, dtype="datetime64[ms]").astype("datetime64[us]")
            return pd.Series(at).dt.tz_localize("UTC")
        case _ if column.dtype == DURATION:
            return pd.Series(np.array(cells, dtype="timedelta64[ms]").astype(DURATION))
    return pd.Series(list(cells), dtype=column.dtype)


def _between(begin: int | None, end: int | None) -> int | None:
    return None if begin is None or end is None else end - begin
