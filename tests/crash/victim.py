"""A process that works on one workflow and may be killed at any commit or statement, and what holds after it."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stabilize_nb import RetryableTask, StageExecution, SubWorkflowTask
from stabilize_nb.core.draft import Limits
from stabilize_nb.events.history import entries_of
from stabilize_nb.events.replay import fold
from stabilize_nb.hitl import ApprovalTask
from stabilize_nb.store import rows
from stabilize_nb.store.sqlite import SqliteDriver
from stabilize_nb.testing.fuse import on_commit
from tests.crash.shapes import Body, Shape, plain
from tests.makers import Bench
from tests.stores import looked_into

if TYPE_CHECKING:
    from stabilize_nb.queue.messages import Message
    from stabilize_nb.store.connection import Connection

#: Seconds after which a workflow that has not ended counts as stuck.
PATIENCE = 20.0


class _Scripted(RetryableTask):
    """Notes in a file that its body was run, then does what the shape says."""

    def __init__(self, victim: Victim, body: Body) -> None:
        self._victim = victim
        self._body = body

    def get_backoff_period(self, stage: StageExecution, elapsed: timedelta) -> timedelta:
        return timedelta(milliseconds=1)

    def execute(self, stage: StageExecution) -> Any:
        self._victim.note(stage)
        stage.context["_note"] = self._victim.note
        return self._body(stage)


class Victim:
    """An engine on the database in a folder, with the tasks of a shape."""

    def __init__(self, folder: Path, shape: Shape, durability: str = "full") -> None:
        self.folder = folder
        self.shape = shape
        self.bench = Bench(
            f"sqlite:///{folder}/runs.db", durability=durability,
            tasks={name: _Scripted(self, body) for name, body in {"plain": plain, **shape.tasks}.items()}
            | {"approval": ApprovalTask, "sub": SubWorkflowTask},
            limits=Limits(backoff_min=1, backoff_max=2),
        )  # fmt: skip
        self.database, self.store, self.sql = self.bench.database, self.bench.store, self.bench.sql
        known = folder / "flows"
        self.flows = known.read_text().split() if known.exists() else []

    @property
    def flow(self) -> str:
        """The id of the first workflow."""
        return self.flows[0]

    def prepare(self) -> None:
        """Store the workflows of the shape; the victims find them there."""
        flows = self.shape.make()
        for each in flows:
            self.store.store(each)
        self.flows = [each.id for each in flows]
        (self.folder / "flows").write_text("\n".join(self.flows))

    def note(self, stage: StageExecution, step: str = "") -> None:
        """Have an effect outside the database, of a body or of a step in it."""
        handle = os.open(self.folder / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"effect {stage.ref_id}{step}\n".encode())
        os.close(handle)

    def acknowledge(self) -> None:
        """Note outside the database, after each commit from now on, how many facts it has promised to keep."""

        def note(connection: Connection) -> None:
            count = connection.raw.execute(_FACTS).get
            handle = os.open(self.folder / "kept", os.O_WRONLY | os.O_CREAT)
            os.write(handle, f"{count:9}".encode())
            os.close(handle)

        on_commit(after=note)

    def push(self, message: Message, name: str) -> bool:
        """Push what a person orders; a second push under the same name changes nothing."""
        asked = self.sql("SELECT 1 FROM message WHERE id = ?", f"{self.flow}-{name}")
        if asked:
            return False
        self.bench.queue.push(message, message_id=f"{self.flow}-{name}")
        return True

    def row(self, ref: str) -> StageExecution | None:
        """Return a stage of the first workflow."""
        return next((each for each in self.store.retrieve(self.flow).stages if each.ref_id == ref), None)

    def drive(self) -> None:
        """Start what was not started, and work until all workflows have ended."""
        for flow in self.flows:
            if self.store.retrieve(flow).status.name == "NOT_STARTED":
                self.bench.orchestrator.start(self.store.retrieve(flow))
        deadline = time.monotonic() + PATIENCE
        while True:
            self.bench.processor.process_all(timeout=PATIENCE)
            acted = [act(self) for act in self.shape.acts]
            if all(self.store.retrieve(flow).status.is_complete for flow in self.flows):
                return
            if not any(acted) and time.monotonic() > deadline:
                return

    def close(self) -> None:
        """Close the engine."""
        self.bench.close()

    # -- what holds -------------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """Return what the run came to and every invariant that does not hold (I1 to I8 of reliability.md, part B)."""
        flows = [row[0] for row in self.sql("SELECT id FROM workflow ORDER BY created_at, id")]
        stages = {}
        for number, flow in enumerate(flows):
            picture = self.store.retrieve(flow)
            stages[f"{number}"] = [picture.status.name, picture.error]
            for each in picture.stages:
                stages[f"{number}/{each.ref_id}"] = [each.status.name, each.outputs]
        return {"stages": stages, "effects": effects(self.folder), "broken": [*self._left_over(), *self._doubled(),
                                                                        *self._differing(flows)]}  # fmt: skip

    def _left_over(self) -> list[str]:
        stuck = self.sql("SELECT name, status FROM workflow WHERE ended_at IS NULL")
        sqlite = isinstance(self.database.driver, SqliteDriver)
        check = self.sql("PRAGMA integrity_check") if sqlite else [("ok",)]
        damage = [] if check == [("ok",)] else [f"integrity: {check}"]
        return [*(f"stuck: {row}" for row in stuck), *self.bench.left_over(), *damage]

    def _doubled(self) -> list[str]:
        """Return results that were committed twice: a task ends once in a generation and attempt."""
        rows = self.sql("SELECT stage_id, data, count(*) FROM event WHERE type IN ('task.completed', 'task.failed')"
                        " GROUP BY stage_id, data HAVING count(*) > 1")  # fmt: skip
        allowed = {row[0] for row in self.sql("SELECT id FROM stage WHERE generation > 0")}
        return [f"committed twice: {row}" for row in rows if row[0] not in allowed]

    def _differing(self, flows: list[str]) -> list[str]:
        """Return rows that differ from the fold of the log (C7)."""
        broken = []
        for flow in flows:
            entries = entries_of(self.database, flow, None)
            if [entry.sequence for entry in entries] != list(range(1, len(entries) + 1)):
                broken.append(f"gap in the log of {flow}")
            folded = {row.id: row for key, row in fold(entries).changed.items() if key.kind == "stage" and row}
            here = {"workflow_id": flow}
            stored = map(rows.stage, self.database.call_read(lambda c, here=here: c.all("stages_of_workflow", here)))
            broken += [f"{row.ref_id} differs from the log: {row} {folded.get(row.id)}" for row in stored
                       if folded.get(row.id) != row]  # fmt: skip
        return broken


# -- what will hold -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Left:
    """What a dead process has left: how often bodies were run (`noted`) and came to an end that is kept (`ended`).

    `lost`: facts that it was told are committed, and that are not there.
    """

    noted: dict[str, int]
    ended: dict[str, int]
    lost: int

    def predicted(self, reference: dict[str, int]) -> dict[str, int]:
        """
        Return how often each body will have been run in the end.

        That is as often as it was run so far, and once for each end that is still to be committed: a body that had run
        and whose end was not committed is run again, and no other.
        """
        return {ref: self.noted.get(ref, 0) + times - self.ended.get(ref, 0) for ref, times in reference.items()}


def left_in(folder: Path) -> Left:
    """Look at a database that nobody has open."""
    with looked_into(folder / "runs.db") as ask:
        ended = dict(ask(_ENDED))
        ((facts,),) = ask(_FACTS)
    kept = folder / "kept"
    promised = int(kept.read_text()) if kept.exists() else 0
    return Left(effects(folder), ended, max(0, promised - facts))


def effects(folder: Path) -> dict[str, int]:
    """Return how often each body was run, and each step in one."""
    file = folder / "effects"
    return dict(Counter(line.split()[1] for line in file.read_text().splitlines())) if file.exists() else {}


_FACTS = "SELECT count(*) FROM event"
#: How often the bodies of each stage have come to an end, and the steps in them.
_ENDED = """
SELECT s.ref_id, count(*) FROM event AS e JOIN stage AS s ON s.id = e.stage_id
WHERE e.type IN ('task.retried', 'task.polled', 'stage.suspended', 'task.completed', 'task.failed') GROUP BY 1
UNION ALL
SELECT s.ref_id || ':tool' || j.number, count(*) FROM journal AS j JOIN stage AS s ON s.id = j.stage_id GROUP BY 1
"""
