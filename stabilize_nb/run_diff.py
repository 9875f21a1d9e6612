"""What changed in a run from one moment to another, as a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.events.frames import Column, frame_of
from stabilize_nb.events.past import Past
from stabilize_nb.run_state import Moment, RunState, StageState, sequence_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

    from stabilize_nb.store.database import Database

#: What can differ, in the order in which it is told.
KINDS = ("status", "round", "attempts", "error", "context", "output")

CHANGES = (
    Column("stage", "string", "ref_id of the stage; missing when it is about the run"),
    Column("what", "category", "what changed", KINDS),
    Column("key", "string", "which output, or which key of the context"),
    Column("before", "object", "the value at the first moment; None when there was none"),
    Column("after", "object", "the value at the second moment; None when there was none"),
)

Change = tuple[str | None, str, str | None, Any, Any]


def changes_between(database: Database, run_id: str, before: Moment, after: Moment | None) -> pd.DataFrame:
    """
    Frame of what is different at two moments of a run, one row a value; columns: `CHANGES`.

    The run comes first, then its stages as they were written; None is the moment after the last fact. Statuses are
    their names. Keys of the context with a leading underscore, the engine's own, are left out, and those that only
    repeat the error of the stage.
    """
    past = Past(database, run_id)
    numbers = [sequence_of(past, before), past.last if after is None else sequence_of(past, after)]
    return frame_of(CHANGES, _changes(*(RunState.of(past, number) for number in numbers)))


def _changes(before: RunState, after: RunState) -> Iterator[Change]:
    for what in ("status", "error"):
        old, new = _plain(getattr(before, what)), _plain(getattr(after, what))
        if old != new:
            yield None, what, None, old, new
    then = {stage.id: stage for stage in before.stages}
    now = {stage.id: stage for stage in after.stages}
    for id_ in now | then:
        some = now.get(id_) or then[id_]
        for (what, key), (old, new) in _paired(_facts(then.get(id_)), _facts(now.get(id_))):
            yield some.ref_id, what, key, old, new


def _facts(stage: StageState | None) -> dict[tuple[str, str | None], Any]:
    if stage is None:
        return {("status", None): None, ("round", None): 1, ("attempts", None): 0, ("error", None): None}
    facts: dict[tuple[str, str | None], Any] = {
        (what, None): _plain(getattr(stage, what)) for what in ("status", "round", "attempts", "error")
    }
    told = ("error", "exception") if stage.error is not None and stage.context.get("error") == stage.error else ()
    context = {key: value for key, value in stage.context.items() if key not in told and not key.startswith("_")}
    facts |= {("context", key): value for key, value in context.items()}
    return facts | {("output", key): value for key, value in stage.outputs.items()}


def _paired(
    old: Mapping[tuple[str, str | None], Any], new: Mapping[tuple[str, str | None], Any]
) -> Iterator[tuple[tuple[str, str | None], tuple[Any, Any]]]:
    """Yield what two mappings do not have in common, in the order of `KINDS`."""
    for name in sorted({**old, **new}, key=lambda name: KINDS.index(name[0])):
        if name not in old or name not in new or old[name] != new[name]:
            yield name, (old.get(name), new.get(name))


def _plain(value: Any) -> Any:
    return getattr(value, "name", value)
