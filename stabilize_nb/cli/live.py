"""
A run as people watch it in a terminal: a table that is painted again while things happen, with a log above it.

The table is made of pictures of the run, so it is right whoever works on the run; the bus only says when to look
again, what bodies tell of their progress, and what to write into the log. Without a terminal there is only the log.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stabilize_nb.events.bus import Event, EventType
from stabilize_nb.models.stage import JoinType, StageExecution
from stabilize_nb.models.status import WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import TracebackType

    from rich.console import Console, RenderableType

    from stabilize_nb.gates import Gate
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.run import Run

S = WorkflowStatus
#: Status -> (symbol, word, style); the symbols are those of the notebook.
LOOKS = {
    S.NOT_STARTED: ("○", "waits", "dim"),
    S.RUNNING: ("▶", "running", "bold blue"),
    S.PAUSED: ("‖", "paused", "yellow"),
    S.SUSPENDED: ("‖", "asks you", "bold yellow"),
    S.SUCCEEDED: ("✓", "done", "green"),
    S.FAILED_CONTINUE: ("✕", "failed, goes on", "red"),
    S.TERMINAL: ("✕", "failed", "bold red"),
    S.CANCELED: ("–", "cancelled", "magenta"),
    S.REDIRECT: ("↻", "jumps", "cyan"),
    S.STOPPED: ("–", "stopped", "magenta"),
    S.SKIPPED: ("⤼", "skipped", "dim"),
    S.BUFFERED: ("○", "in line", "dim"),
}
ENDS = {EventType.STAGE_COMPLETED, EventType.STAGE_FAILED, EventType.STAGE_SKIPPED, EventType.STAGE_CANCELED}
PAINTS_PER_SECOND = 6
#: Seconds between pictures: at least, and when nothing was heard (another process may work on the run).
LOOK_AT_MOST = 0.15
LOOK_OUTSIDE = 0.5
#: Columns below which the bars are left out.
NARROW = 72


@dataclass(slots=True)
class Told:
    """What the body of a stage told last."""

    fraction: float | None = None
    message: str = ""


@dataclass(slots=True)
class Board:
    """What is shown of a run: its picture, what bodies told, what was done before this process came."""

    picture: Workflow
    begun: float = field(default_factory=time.time)
    told: dict[str, Told] = field(default_factory=dict)
    earlier: frozenset[str] = frozenset()

    @property
    def names(self) -> dict[str, str]:
        """Stage id -> ref_id."""
        return {stage.id: stage.ref_id for stage in self.picture.stages}

    @property
    def done(self) -> list[str]:
        """The ref_ids of the stages that are complete."""
        return [stage.ref_id for stage in self.picture.stages if stage.status.is_complete]

    def hear(self, event: Event) -> Text | None:
        """Take in an event and return its line of the log, when it has one."""
        name = self.names.get(event.entity_id) or self.names.get(event.data.get("stage", ""), "")
        if event.event_type is EventType.CUSTOM:
            self.told[name] = Told(event.data["fraction"], event.data["message"])
            return None
        if event.event_type in (EventType.STAGE_RESET, EventType.STAGE_STARTED):
            self.earlier -= {name}
        line = self._line(event, name)
        if event.event_type is EventType.STAGE_RESET:
            self.told.pop(name, None)
        return line

    def _line(self, event: Event, name: str) -> Text | None:
        data = event.data
        message = self.told.get(name, Told()).message
        match event.event_type:
            case kind if kind in ENDS:
                return self._end(S(data["status"]), name, data)
            case EventType.STAGE_SUSPENDED:
                return _sentence(S.SUSPENDED, name, "waits for a decision")
            case EventType.JOIN_FIRED if is_quorum(self.picture.stage_by_ref_id(name)):
                came = sorted(self.names.get(each, each) for each in data.get("triggers", ()))
                return _sentence(S.NOT_STARTED, name, f"has enough with {', '.join(came)}")
            case EventType.JUMP_EXECUTED:
                return _sentence(S.REDIRECT, name, f"goes to {data['target']}" + (f": {message}" if message else ""))
            case EventType.TASK_RETRIED:
                return _sentence(S.RUNNING, name, f"is tried again after {data.get('error')}")
            case EventType.RESULT_DISCARDED:
                return _sentence(S.CANCELED, name, f"came too late, its result is not used ({data['reason']})")
            case _:
                return None

    def _end(self, status: WorkflowStatus, name: str, data: Mapping[str, Any]) -> Text:
        if status is S.CANCELED:
            return _sentence(status, name, f"is withdrawn ({data.get('reason') or 'by a person'})")
        told = self.told.get(name, Told()).message
        return _sentence(status, name, data.get("error") or told or LOOKS[status][1])


def _sentence(status: WorkflowStatus, name: str, text: str) -> Text:
    symbol, _, style = LOOKS[status]
    return Text.assemble((f"{symbol} ", style), (f"{name}: ", "bold"), text)


def is_quorum(stage: StageExecution) -> bool:
    """Whether a stage starts before all of its branches have delivered."""
    return stage.join_type in (JoinType.N_OF_M, JoinType.DISCRIMINATOR)


class Watch:
    """Shows one run on a console while it is entered."""

    def __init__(self, run: Run, console: Console, *, earlier: Collection[str] = ()) -> None:
        self.run = run
        self.console = console
        self.board = Board(run.workflow, earlier=frozenset(earlier))
        self._news: deque[Event] = deque()
        self._heard = threading.Event()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        self.run.engine.database.bus.subscribe("terminal", self._hear, workflow_id=self.run.id)
        self.show()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run.engine.database.bus.unsubscribe("terminal")
        self.hide(keep=True)

    def show(self) -> None:
        """Paint the table from now on; does nothing without a terminal."""
        if self.console.is_terminal and self._live is None:
            self._live = Live(
                console=self.console, get_renderable=self.paint, refresh_per_second=PAINTS_PER_SECOND,
                redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self._live.start()

    def hide(self, *, keep: bool = False) -> None:
        """Stop painting; `keep` leaves the table on the screen."""
        if self._live is not None:
            self._live.transient = not keep
            self._live.stop()
            self._live = None

    def follow(self, decided: Collection[str] = ()) -> Gate | None:
        """Show the run until it has ended (None) or one of its gates asks for a decision that is not `decided`."""
        while True:
            self._look()
            if self.board.picture.status.is_complete:
                return None
            for gate in self.run.gates:
                if gate.stage_id not in decided:
                    return gate
            self._heard.wait(LOOK_OUTSIDE)
            self._heard.clear()
            time.sleep(LOOK_AT_MOST)

    def _look(self) -> None:
        self.board.picture = self.run.workflow
        self.run.engine.database.bus.flush()
        while self._news:
            event = self._news.popleft()
            line = self.board.hear(event)
            if line is not None:
                seconds = event.timestamp.timestamp() - self.board.begun
                self.console.print(Text(f"{max(0.0, seconds):6.1f} s  ", style="dim") + line, soft_wrap=True)

    def _hear(self, event: Event) -> None:
        self._news.append(event)
        self._heard.set()

    @property
    def elapsed(self) -> float:
        """Seconds since this watch began."""
        return time.time() - self.board.begun

    # -- painting ---------------------------------------------------------------------------------

    def paint(self) -> RenderableType:
        """Return the header and one row for each stage, in the order of the graph."""
        picture = self.board.picture
        symbol, word, style = LOOKS[picture.status]
        header = Text.assemble(
            ("\n" + picture.name, "bold"), f"  {picture.id}  ", (f"{symbol} {word}", style),
            f"  {len(self.board.done)} of {len(picture.stages)} done  {self.elapsed:.1f} s",
            no_wrap=True, overflow="ellipsis",
        )  # fmt: skip
        wide = self.console.width >= NARROW
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        if wide:
            table.add_column(width=16)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for branch, stage in in_graph_order(picture):
            table.add_row(*self._row(branch, stage, wide=wide))
        return Group(header, table)

    def _row(self, branch: str, stage: StageExecution, *, wide: bool) -> list[RenderableType]:
        symbol, word, style = LOOKS[stage.status]
        if stage.status is S.NOT_STARTED and self.board.picture.status.is_complete:
            word = "not run"
        told = self.board.told.get(stage.ref_id, Told())
        cells: list[RenderableType] = [Text(branch + stage.ref_id), Text(f"{symbol} {word}", style=style)]
        if wide:
            cells.append(self._bar(stage, told))
        return [*cells, Text(self._message(stage, told), style="dim" if stage.status is S.NOT_STARTED else "")]

    def _bar(self, stage: StageExecution, told: Told) -> RenderableType:
        if stage.status is S.RUNNING:
            return ProgressBar(completed=100 * (told.fraction or 0), width=16)
        return ProgressBar(completed=100, width=16) if stage.status is S.SUCCEEDED else ""

    def _message(self, stage: StageExecution, told: Told) -> str:
        if stage.ref_id in self.board.earlier:
            return "done before, not repeated"
        if stage.status is S.NOT_STARTED:
            needed = stage.join_threshold or 1
            return f"needs {needed} of {len(stage.requisite_stage_ref_ids)}" if is_quorum(stage) else ""
        return stage.error or told.message


def in_graph_order(picture: Workflow) -> list[tuple[str, StageExecution]]:
    """Return the stages, those that run side by side together, each with the sign that says so."""
    depths: dict[str, int] = {}
    stages = {stage.ref_id: stage for stage in picture.stages}
    while len(depths) < len(stages):
        for ref, stage in stages.items():
            before = [each for each in stage.requisite_stage_ref_ids if each in stages]
            if ref not in depths and all(each in depths for each in before):
                depths[ref] = 1 + max((depths[each] for each in before), default=0)
    rows = []
    for depth in sorted(set(depths.values())):
        level = [stage for ref, stage in stages.items() if depths[ref] == depth]
        signs = ["  "] if len(level) == 1 else ["├ "] * (len(level) - 1) + ["└ "]
        rows += list(zip(signs, level, strict=True))
    return rows
