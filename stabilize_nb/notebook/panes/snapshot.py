"""What panes are painted from: everything about a run at one moment, read once for all panes that show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stabilize_nb.events.bus import TOKENS, Event, EventType
from stabilize_nb.models.ids import new_id
from stabilize_nb.notebook.logs import Logs, StageLog, gathered
from stabilize_nb.notebook.progress import Told
from stabilize_nb.notebook.standing import standing
from stabilize_nb.printed import at_work, logged

if TYPE_CHECKING:
    from stabilize_nb.gates import Gate
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """
    A run at a moment (`now`: ms since the epoch).

    `standing`: what is to be known besides its stages; `told`: progress of bodies at work here, and `logs`: what
    stages have printed, both by stage id. `speaks`: words of a model have come.
    """

    workflow: Workflow
    now: int
    gates: tuple[Gate, ...] = ()
    standing: tuple[str, ...] = ()
    told: Mapping[str, Told] = field(default_factory=dict)
    logs: Logs = field(default_factory=dict)
    speaks: bool = False


class RunReader:
    """Reads a run again and again: of its log only what is new. `stir` is called when a body tells its progress."""

    def __init__(self, run: Run, stir: Callable[[], None] | None = None) -> None:
        self.run = run
        self._name = f"pane-{new_id()}"
        self._stir = stir
        self._told: dict[str, Told] = {}
        self._logs: dict[str, StageLog] = {}
        self._after = 0
        self._listens = False
        self._speaks = False

    def __call__(self) -> Snapshot:
        """Read the run as it is now."""
        if self._stir is not None and not self._listens:
            self._listens = True
            self.run.engine.database.bus.subscribe(self._name, self._hear, {EventType.CUSTOM}, self.run.id)
        workflow = self.run.workflow
        is_open = not workflow.status.is_complete
        return Snapshot(
            workflow=workflow,
            now=self.run.engine.database.clock(),
            gates=tuple(self.run.gates) if is_open else (),
            standing=standing(self.run, workflow),
            told=dict(self._told),
            logs=self._read_logs(),
            speaks=self._speaks,
        )

    def close(self) -> None:
        """Listen no more."""
        self.run.engine.database.bus.unsubscribe(self._name)

    def _read_logs(self) -> Logs:
        engine = self.run.engine
        printed = logged(engine.database, self.run.id, self._after)
        fresh = list(at_work(engine.processor.desk, self.run.id))
        if printed:
            self._after = printed[-1].sequence
            gathered(self._logs, printed)
        logs = {stage_id: log.copy() for stage_id, log in self._logs.items()} if fresh else dict(self._logs)
        return gathered(logs, fresh)

    def _hear(self, event: Event) -> None:
        if event.data.get("kind") == TOKENS:  # they are in the log, whose listener stirs
            self._speaks = True
            return
        fraction, message = event.data.get("fraction"), event.data.get("message")
        known = float(fraction) if isinstance(fraction, int | float) else None
        self._told[event.entity_id] = Told(fraction=known, message=str(message or ""))
        if self._stir is not None:
            self._stir()


def read(run: Run) -> Snapshot:
    """Read a run once, as it is now."""
    return RunReader(run)()
