"""What task bodies of a run printed and displayed: from the log, and of bodies at work here what is not there yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.store.codec import loads

if TYPE_CHECKING:
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.queue.processor.desk import Desk
    from stabilize_nb.store.database import Database


class Lines(str):
    """Text that is shown without quotes, and without what a terminal obeys; `print` gives all of it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return obeyed_by_none(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What one attempt of one task printed; `parts` as in the fact TaskPrinted. `sequence` 0: not in the log yet."""

    stage_id: str
    attempt: int
    parts: tuple[dict[str, Any], ...]
    sequence: int = 0
    at: int = 0

    @property
    def text(self) -> str:
        """The same as text; of a display its text."""
        return "".join(map(_text_of, self.parts))


def logged(database: Database, run_id: str, after: int = 0) -> list[Printed]:
    """Return what the log of a run has behind the sequence number `after`, in order."""
    here = {"workflow_id": run_id, "after": after}
    rows = database.call_read(lambda connection: connection.all("outputs_of_workflow", here))
    return [_printed(*row) for row in rows]


def _printed(sequence: int, at: int, stage_id: str, data: str) -> Printed:
    fact = loads(data)
    return Printed(
        stage_id=stage_id, attempt=fact["attempt"], parts=tuple(fact.get("output", ())), sequence=sequence, at=at
    )


def at_work(desk: Desk, run_id: str) -> Iterator[Printed]:
    """Yield what bodies at work in this process have printed and the log does not have yet."""
    for running in list(desk.running.values()):
        if running.leased.workflow_id == run_id and running.output is not None and (parts := running.output.parts()):
            body = running.body
            yield Printed(stage_id=body.stage.id, attempt=body.task.attempt, parts=tuple(parts))


def log_of(database: Database, desk: Desk, workflow: Workflow, stage_id: str | None = None) -> Lines:
    """Return what a stage printed, or what all did with the name of the stage before each line."""
    printed = [*logged(database, workflow.id), *at_work(desk, workflow.id)]
    if stage_id is not None:
        return Lines("".join(each.text for each in printed if each.stage_id == stage_id))
    names = {stage.id: stage.ref_id for stage in workflow.stages}
    return Lines("".join(_named(names, printed)))


def _named(names: dict[str, str], printed: Iterable[Printed]) -> Iterator[str]:
    for each in printed:
        for line in each.text.splitlines():
            yield f"{names.get(each.stage_id, each.stage_id)}: {line}\n"


def caption(part: Mapping[str, Any]) -> str:
    """Return a display as text."""
    return str(part.get("text/markdown") or part.get("text/plain") or f"({', '.join(part)})")


def _text_of(part: dict[str, Any]) -> str:
    for stream in ("stdout", "stderr"):
        if stream in part:
            return str(part[stream])
    return f"{caption(part)}\n"
