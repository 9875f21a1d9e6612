"""
What a cell shows of a flow, a workflow and a run: bundles that need no kernel, no script and no style sheet.

The picture is an <img> with its SVG inside, the one kind of drawing that an untrusted notebook shows, and it has an
`alt` that says the same. Beside it stands a table; a gate that waits says what it asks and how to answer. The
`text/plain` of everything is the text DAG.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from IPython.core.getipython import get_ipython
from markupsafe import Markup

from stabilize_nb.models.status import FAILURE, WorkflowStatus
from stabilize_nb.notebook.config import live_panes, settings
from stabilize_nb.notebook.dot import Direction
from stabilize_nb.notebook.doubts import doubts_of, under
from stabilize_nb.notebook.draw import data_uri, svg_of
from stabilize_nb.notebook.gates import Asked, is_asking
from stabilize_nb.notebook.logs import folded_log, log_lines
from stabilize_nb.notebook.panes.snapshot import Snapshot, read
from stabilize_nb.notebook.progress import StageTable, status_of, took
from stabilize_nb.notebook.standing import standing
from stabilize_nb.notebook.tables import Table, duration, join
from stabilize_nb.notebook.text import LOOKS, describe, shorten, to_text
from stabilize_nb.notebook.traces import places
from stabilize_nb.plain import obeyed_by_none

if TYPE_CHECKING:
    from stabilize_nb.flow import Flow, FlowStage
    from stabilize_nb.models.stage import StageExecution
    from stabilize_nb.models.workflow import Workflow
    from stabilize_nb.notebook.shell import Shell
    from stabilize_nb.run import Run

S = WorkflowStatus
Bundle = dict[str, Any]

_NOTHING: Final = Markup()
_HEADING: Final = Markup("<p><b>{}</b> · {}</p>")
_IMAGE: Final = Markup('<p><img alt="{}" src="{}"></p>')
_LINE: Final = Markup("<p>{}</p>")
#: Columns of an error or a docstring.
COLUMNS: Final = 120
#: Lines of the log in the text of a run.
LOG_LINES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A workflow to look at: as drawing, and nothing else. `svg` is the drawing as text."""

    workflow: Workflow
    direction: Direction = "auto"

    @property
    def svg(self) -> str:
        """The picture as SVG."""
        return svg_of(self.workflow, direction=self.direction)

    def save(self, path: str) -> None:
        """Write the SVG to a file."""
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - what users know from everywhere
            file.write(self.svg)

    def __repr__(self) -> str:
        return f"Picture({describe(self.workflow)!r})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Bundle:
        return _bundle(self.workflow, self.direction, text=to_text(self.workflow))


def flow_bundle(
    flow: Flow, *, direction: Direction = "auto", news: str = "", marks: Mapping[str, str] | None = None
) -> Bundle:
    """Show a definition; `news` says what is new in it, and `marks` at which stages, by name."""
    workflow = flow.picture()
    facts = [_count(len(flow.stages)), *_inputs(flow)]
    if flow.version > 1 or news:
        facts.append(f"version {flow.version}" + (f": {news}" if news else ""))
    text = to_text(workflow, notes=marks).splitlines()
    text[:1] = [f"{flow.name}: {' · '.join(facts)}"]
    doubts = doubts_of(flow)
    table = Table(
        ("stage", "follows", "takes", "settings", "what it does"),
        [_flow_row(flow, stage) for stage in flow.stages.values()],
    )
    return _bundle(
        workflow,
        direction,
        text="\n".join([*text, *under(doubts)]),
        before=_HEADING.format(shorten(flow.name), " · ".join(facts)),
        after=join(map(_LINE.format, doubts)) + table.html(),
        marks=marks,
    )


def workflow_bundle(workflow: Workflow, *, direction: Direction = "auto") -> Bundle:
    """Show a workflow of the reference API as it is: a definition, or a picture from a store."""
    doubts = doubts_of(workflow)
    if workflow.status is S.NOT_STARTED and workflow.start_time is None:
        facts = _count(len(workflow.stages))
        table = Table(("stage", "follows", "tasks"), [_stage_row(stage) for stage in workflow.stages]).html()
    else:
        facts = _facts(workflow, _wall())
        table = StageTable(workflow=workflow, now=_wall()).html()
    return _bundle(
        workflow, direction, text="\n".join([to_text(workflow), *under(doubts)]),
        before=_HEADING.format(shorten(workflow.name), facts), after=join(map(_LINE.format, doubts)) + table,
    )  # fmt: skip


def run_bundle(run: Run, *, direction: Direction = "auto", seen: Snapshot | None = None) -> Bundle:
    """Show a run as it is now, or was `seen`: picture, gates and how to decide, a table of the stages, and its log."""
    seen = seen or read(run)
    workflow, now = seen.workflow, seen.now
    gates = [Asked.of(workflow, stage, now) for stage in workflow.stages if is_asking(stage)]
    remarks = list(_remarks(run, workflow))
    facts = f"{run.id} · {_facts(workflow, now)}"
    text = [f"{workflow.name} · {facts}", *to_text(workflow, notes=_notes(workflow, now)).splitlines()[1:]]
    text += ["", *remarks] if remarks else []
    text += [line for gate in gates for line in ("", *gate.lines())]
    text += [line for line in ("", *log_lines(workflow, seen.logs, LOG_LINES)) if seen.logs]
    after = join(_LINE.format(remark) for remark in remarks) + join(gate.html() for gate in gates)
    return _bundle(
        workflow, direction, text="\n".join(text), before=_HEADING.format(shorten(workflow.name), facts),
        after=after + StageTable(workflow=workflow, now=now).html() + folded_log(workflow, seen.logs),
    )  # fmt: skip


def show_live(run: Run) -> None:
    """Show a run in a live pane; raises NotImplementedError where there are none."""
    live_panes().show(run)


def _bundle(
    workflow: Workflow, direction: Direction, *, text: str, before: Markup = _NOTHING, after: Markup = _NOTHING,
    marks: Mapping[str, str] | None = None,
) -> Bundle:  # fmt: skip
    text = obeyed_by_none(text)
    if settings().display == "text":
        return {"text/plain": text}
    svg = svg_of(workflow, direction=direction, notes=marks)
    image = _IMAGE.format(describe(workflow), data_uri(svg))
    return {"text/html": str(before + image + after), "image/svg+xml": svg, "text/plain": text}


# -- flows --------------------------------------------------------------------------------------------


def _count(number: int) -> str:
    return "1 stage" if number == 1 else f"{number} stages"


#: What a loop itself gives.
_OF_LOOPS: Final = frozenset({"iteration_count", "max_iterations", "loop_exhausted"})


def _inputs(flow: Flow) -> Iterator[str]:
    """Say what a run is given; what a stage can be seen to put out is left out, unless the first stages need it."""
    stages = flow.stages.values()
    needed = {name for stage in stages for name, is_needed in stage.wants().items() if is_needed}
    put_out = {name for stage in stages for name in stage.gives} | (_OF_LOOPS if flow.loops else frozenset())
    names = [name for name, is_needed in flow.inputs.items() if is_needed or name not in put_out]
    inputs = [name if name in needed else f"{name} (optional)" for name in names]
    if inputs:
        yield f"inputs: {', '.join(inputs)}"


def _flow_row(flow: Flow, stage: FlowStage) -> list[str]:
    requisites = flow.requisites(stage)
    follows = [name for name in flow.nodes if name in requisites]
    takes = [name for name in stage.parameters if name not in flow.nodes and name not in {"stage", "progress"}]
    return [stage.name, ", ".join(follows), ", ".join(takes), ", ".join(_settings(stage)), _purpose(stage)]


def _settings(stage: FlowStage) -> Iterator[str]:
    given = stage.settings
    if given.get("join") not in {None, "all"}:
        yield f"join {given['join']}"
    for word in _WORDS:
        if word in given:
            yield f"{word.rstrip('_')} {_written(given[word])}"
    if given.get("retry"):
        yield f"retry {given['retry']}"
    if given.get("timeout"):
        yield f"timeout {duration(round(given['timeout'] * 1_000))}"
    if given.get("form"):
        yield f"form: {', '.join(given['form'])}"
    if asked := given.get("asked"):
        yield from _asked(asked)


#: Words of a flow that its table shows as they are written.
_WORDS: Final = (
    "when", "otherwise", "choose", "each", "enough", "race", "mutex", "region", "cancels", "milestone", "until", "ends",
)  # fmt: skip


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return "" if value is True else shorten(str(value), COLUMNS)


def _asked(asked: Mapping[str, Any]) -> Iterator[str]:
    if asked.get("choices"):
        yield f"choices: {', '.join(asked['choices'])}"
    if asked.get("timeout"):
        yield f"{asked['on_timeout']} after {duration(round(asked['timeout'] * 1_000))}"


def _purpose(stage: FlowStage) -> str:
    if stage.is_gate:
        return shorten(stage.settings["question"], COLUMNS)
    does = str(stage.task) if stage.task is not None else stage.function.__doc__ if stage.function is not None else ""
    said = stage.settings.get("title") or does or ""
    return shorten(said.strip().partition("\n")[0], COLUMNS)


def _stage_row(stage: StageExecution) -> list[str]:
    tasks = ", ".join(task.implementing_class for task in stage.tasks)
    return [stage.ref_id, ", ".join(sorted(stage.requisite_stage_ref_ids)), tasks]


# -- runs ---------------------------------------------------------------------------------------------


def _remarks(run: Run, workflow: Workflow) -> Iterator[str]:
    """Say what a reader of the picture has to know besides: who works with which code, and where stages failed."""
    yield from standing(run, workflow)
    shell = get_ipython()
    if shell is not None and any(stage.status in FAILURE for stage in workflow.stages):
        for ref, place in places(shell, run).items():
            yield f"{LOOKS[S.TERMINAL].symbol} {ref} failed at {place}"


def _wall() -> int:
    return time.time_ns() // 1_000_000


def _facts(workflow: Workflow, now: int) -> str:
    look = LOOKS[status_of(workflow.status, workflow.stages)]
    done = sum(stage.status.is_complete for stage in workflow.stages)
    facts = [f"{look.symbol} {look.word}", f"{done} of {_count(len(workflow.stages))}"]
    if workflow.start_time is not None:
        facts.append(duration((workflow.end_time or now) - workflow.start_time))
    if workflow.error and not any(stage.error for stage in workflow.stages):
        facts.append(shorten(workflow.error, COLUMNS))
    return " · ".join(facts)


def _notes(workflow: Workflow, now: int) -> Mapping[str, str]:
    return {stage.ref_id: took(stage, now) for stage in workflow.stages}


# -- IPython ------------------------------------------------------------------------------------------


def register(shell: Shell) -> None:
    """Have IPython show what cannot say by itself how: models know nothing of notebooks."""
    formatter = shell.display_formatter.mimebundle_formatter
    for name, view in _FORMATTED.items():
        formatter.for_type_by_name(*name, view)


def unregister(shell: Shell) -> None:
    """Undo `register`."""
    formatter = shell.display_formatter.mimebundle_formatter
    for module, name in _FORMATTED:
        try:
            formatter.pop(f"{module}.{name}")
        except KeyError:
            continue


_FORMATTED: Final[Mapping[tuple[str, str], Callable[[Any], Bundle]]] = {
    ("stabilize_nb.models.workflow", "Workflow"): workflow_bundle
}
