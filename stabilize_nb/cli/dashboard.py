"""
A store as people watch it in a terminal, made of an `Overview`: one column, or two where there is room for them.

Every row is one line, and what does not fit is left out and counted, so that a frame is as high as the screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stabilize_nb.cli.live import LOOKS
from stabilize_nb.models.status import WorkflowStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from stabilize_nb.overview import Body, DeadLetter, Overview, Processor, RunLine

S = WorkflowStatus
#: Columns from which on there are two columns, and below which runs have no bar.
WIDE, NARROW = 130, 72
#: Rows of processors, bodies and dead letters that one column has room for: in so many lines, and in fewer.
ROOM: Final = 19
FEW, FEWEST = (3, 4, 2), (1, 1, 1)
ORDER = (S.RUNNING, S.PAUSED, S.BUFFERED, S.NOT_STARTED, S.SUCCEEDED, S.TERMINAL, S.CANCELED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is shown, and where: `height` None shows everything. `note` is the right end of the first line."""

    place: str
    note: str
    width: int
    height: int | None = None
    trouble: str = ""


def dashboard(seen: Overview, frame: Frame) -> RenderableType:
    """Return one picture of a store."""
    head = [_title(seen, frame), *_numbers(seen)]
    if frame.trouble:
        head.append(Text(line(frame.trouble), style="bold red", no_wrap=True, overflow="ellipsis"))
    left = None if frame.height is None else max(frame.height - len(head) - 1, 0)
    if frame.width < WIDE:
        return Group(*head, Text(), *_column(seen, left, frame.width))
    return Group(*head, Text(), _side_by_side(seen, left, frame.width))


def _title(seen: Overview, frame: Frame) -> RenderableType:
    table = Table.grid(expand=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True, justify="right")
    table.add_row(Text(line(frame.place), style="bold"), f" {moment(seen.at)} UTC  {frame.note}")
    return table


def _numbers(seen: Overview) -> list[RenderableType]:
    statuses = [_counted(*LOOKS[status][::2], seen.counts[status], _word(status))
                for status in ORDER if seen.counts.get(status)]  # fmt: skip
    queue, gone = seen.queue, len(seen.processors) - seen.alive
    waits = [_counted("‖", "bold yellow", seen.gates, "ask you")] if seen.gates else []
    work = [f"{queue.bodies} at work", f"{queue.due} due", f"{queue.later} due later"]
    dead = Text(f"{queue.dead} dead letters", style="bold red" if queue.dead else "")
    workers = [Text(f"{seen.alive} alive"), *([Text(f"{gone} gone", style="bold red")] if gone else [])]
    return [
        _said("runs", statuses or [Text("none")], waits),
        _said("queue", map(Text, work), [dead]),
        _said("workers", workers, [Text(f"{seen.rate:.1f} stages completed a second")]),
    ]


def _said(title: str, *parts: Iterable[Text]) -> Text:
    text = Text(f"{title:<9}", style="", no_wrap=True, overflow="ellipsis", end="\n")
    text.stylize("dim")
    return text.append_text(Text("   ").join(each for part in parts for each in part))


def _counted(symbol: str, style: str, count: int, word: str) -> Text:
    return Text.assemble((f"{symbol} ", style), f"{count} {word}")


def _word(status: WorkflowStatus) -> str:
    return "not started" if status is S.NOT_STARTED else LOOKS[status][1]


# -- where things stand -------------------------------------------------------------------------------


def _column(seen: Overview, height: int | None, width: int) -> list[RenderableType]:
    """Everything below each other; runs get the lines that the others leave."""
    below = _others(seen, None if height is None else FEW if height >= ROOM else FEWEST)
    left = None if height is None else height - sum(lines for _, lines in below)
    return [_runs(seen, left, bar=width >= NARROW), *(table for table, _ in below)]


def _side_by_side(seen: Overview, height: int | None, width: int) -> RenderableType:
    """Runs on the left; who works, what is at work, and what is dead on the right."""
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(width=width * 55 // 100)
    table.add_column(width=width - width * 55 // 100 - 3)
    few = None if height is None else _shares(seen, height)
    table.add_row(_runs(seen, height, bar=True), Group(*(each for each, _ in _others(seen, few))))
    return table


def _shares(seen: Overview, height: int) -> Sequence[int]:
    """Return how many rows processors, bodies and dead letters get: what some do not need the bodies have."""
    rows = height - 2 * sum(map(bool, (seen.processors, seen.bodies, seen.dead)))
    workers, dead = (min(len(each), max(rows // 3, 1)) for each in (seen.processors, seen.dead))
    return workers, max(rows - workers - dead, 1), dead


def _others(seen: Overview, few: Sequence[int] | None) -> list[tuple[RenderableType, int]]:
    """Return the tables beside that of the runs, with how many lines each has."""
    workers, bodies, dead = few or (len(seen.processors), len(seen.bodies), len(seen.dead))
    tables = [
        (_processors(seen, workers), min(len(seen.processors), workers)),
        (_bodies(seen, bodies), min(len(seen.bodies), bodies)),
        (_dead(seen, dead), min(len(seen.dead), dead)),
    ]
    return [(Group(table, Text()), rows + 2) for table, rows in tables if rows]


def _table(*columns: str, shared: int = 0) -> Table:
    """Return a table of one-line rows; the column at `shared` takes the room that the others leave."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for at, title in enumerate(columns):
        table.add_column(title, no_wrap=True, overflow="ellipsis", ratio=1 if at == shared else None)
    return table


def _more(title: str, shown: int, there: int) -> str:
    return title if shown >= there else f"{title} ({shown} of {there})"


def _runs(seen: Overview, height: int | None, *, bar: bool) -> RenderableType:
    if not seen.runs:
        return Group(Text("no runs to show", style="dim"), Text())
    rows = seen.runs if height is None else seen.runs[: max(height - 2, 1)]
    table = _table("run", "", "", *(["stages"] if bar else []), "for", shared=2)
    table.columns[1].max_width = 24
    for run in rows:
        symbol, _, style = LOOKS[_look(run)]
        which = Text.assemble((f"{symbol} ", style), (tail(run.id), "dim"))
        cells: list[RenderableType] = [which, Text(line(run.name), style="bold"), _state(run)]
        if bar:
            cells.append(_progress(run))
        table.add_row(*cells, age((run.ended_at or seen.at) - run.created_at))
    return Group(table, Text())


def _look(run: RunLine) -> WorkflowStatus:
    return S.SUSPENDED if run.status is S.RUNNING and S.SUSPENDED in run.open else run.status


def _state(run: RunLine) -> Text:
    if run.status is S.RUNNING:
        asked, at_work = run.open.get(S.SUSPENDED), run.open.get(S.RUNNING)
        if asked is not None:
            return Text(f"{line(asked)} waits", style="yellow")
        return Text(line(at_work or ""))
    _, word, style = LOOKS[run.status]
    return Text(line(run.error) or _word(run.status) or word, style=style.replace("bold ", ""))


def _progress(run: RunLine) -> RenderableType:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=10)
    table.add_column(justify="right", width=7)
    table.add_row(
        ProgressBar(run.stages or 1, run.done, width=10, complete_style="green", finished_style="green", style="dim"),
        f"{run.done}/{run.stages}",
    )
    return table


def _processors(seen: Overview, rows: int) -> RenderableType:
    table = _table(_more("workers", rows, len(seen.processors)), "process", "bodies", "for")
    for each in sorted(seen.processors, key=lambda each: each.alive)[:rows]:
        table.add_row(*_processor(each, seen.at))
    return table


def _processor(each: Processor, now: int) -> tuple[Text | str, ...]:
    mark = Text("● alive", style="green") if each.alive else Text("✕ gone", style="bold red")
    return Text.assemble(mark, f"  {line(each.host)}"), str(each.pid), str(each.bodies), age(now - each.started_at)


def _bodies(seen: Overview, rows: int) -> RenderableType:
    table = _table(_more("at work", rows, seen.queue.bodies), "run", "process", "for")
    pids = {each.owner: each for each in seen.processors}
    for each in seen.bodies[:rows]:
        table.add_row(*_body(each, pids.get(each.owner), seen.at))
    return table


def _body(each: Body, owner: Processor | None, now: int) -> tuple[Text | str, ...]:
    again = f" (delivery {each.deliveries})" if each.deliveries > 1 else ""
    name = Text.assemble((line(each.stage), "bold"), f" of {line(each.name)}", (again, "yellow"))
    return name, Text(tail(each.run_id), style="dim"), str(owner.pid) if owner else "", age(now - (each.since or now))


def _dead(seen: Overview, rows: int) -> RenderableType:
    table = _table(_more("dead letters", rows, seen.queue.dead), "run", "since")
    for each in seen.dead[:rows]:
        table.add_row(*_letter(each, seen.at))
    return table


def _letter(each: DeadLetter, now: int) -> tuple[Text | str, ...]:
    what = f"{line(each.stage or each.kind)} of {line(each.name)}: "
    text = Text.assemble(("✕ ", "bold red"), (what, "bold"), line(each.error))
    return text, Text(tail(each.run_id), style="dim"), age(now - each.died_at)


# -- words --------------------------------------------------------------------------------------------


def line(text: str) -> str:
    """Return a text as one line."""
    return " ".join(text.split())


def tail(run_id: str) -> str:
    """Return the end of an id, by which `stabilize-nb show` finds the run."""
    return line(run_id)[-7:]


def age(ms: int) -> str:
    """Return a duration in one or two units."""
    seconds = max(ms, 0) // 1_000
    for size, unit, smaller in ((86_400, "d", "h"), (3_600, "h", "m"), (60, "m", "s")):
        if seconds >= size:
            rest = seconds % size // {"h": 3_600, "m": 60, "s": 1}[smaller]
            return f"{seconds // size}{unit} {rest}{smaller}"
    return f"{seconds}s"


def moment(at: int) -> str:
    """Return the time of a day (UTC)."""
    return datetime.fromtimestamp(at / 1_000, UTC).strftime("%H:%M:%S")
