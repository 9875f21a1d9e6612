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

from markupsafe import Markup

from stabilize_nb.models.status import FAILURE, WorkflowStatus
from stabilize_nb.notebook.config import settings
from stabilize_nb.notebook.dot import Direction
from stabilize_nb.notebook.draw import data_uri, svg_of
from stabilize_nb.notebook.tables import Table, duration, join, moment
from stabilize_nb.notebook.text import LOOKS, describe, shorten, to_text

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
_GATE: Final = Markup("<p>{} <b>{}</b> waits for a decision: {}</p>{}<p>{}<code>{}</code> or <code>{}</code></p>")
_SHOWN: Final = Markup('<pre style="white-space:pre-wrap">{}</pre>')
_CODE: Final = Markup("<p>{} waits for code: {}</p>")
#: Characters of what a gate shows, and columns of an error.
PREVIEW: Final = 1_200
ERROR_COLUMNS: Final = 120


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


class Lines(str):
    """Text that a cell shows as it is, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def flow_bundle(flow: Flow, *, direction: Direction = "auto", news: str = "") -> Bundle:
    """Show a definition; `news` says what is new in it."""
    workflow = flow.picture()
    facts = [_count(len(flow.stages)), *_inputs(flow)]
    if flow.version > 1 or news:
        facts.append(f"version {flow.version}" + (f": {news}" if news else ""))
    text = to_text(workflow).splitlines()
    text[:1] = [f"{flow.name}: {' · '.join(facts)}"]
    table = Table(
        ("stage", "follows", "takes", "settings", "what it does"),
        [_flow_row(flow, stage) for stage in flow.stages.values()],
    )
    return _bundle(
        workflow,
        direction,
        text="\n".join(text),
        before=_HEADING.format(flow.name, " · ".join(facts)),
        after=table.html(),
    )


def workflow_bundle(workflow: Workflow, *, direction: Direction = "auto") -> Bundle:
    """Show a workflow of the reference API as it is: a definition, or a picture from a store."""
    if workflow.status is S.NOT_STARTED and workflow.start_time is None:
        facts = _count(len(workflow.stages))
        table = Table(("stage", "follows", "tasks"), [_stage_row(stage) for stage in workflow.stages])
    else:
        facts = _facts(workflow, _wall())
        table = _progress(workflow, _wall())
    return _bundle(
        workflow, direction, text=to_text(workflow), before=_HEADING.format(workflow.name, facts), after=table.html()
    )


def run_bundle(run: Run, *, direction: Direction = "auto") -> Bundle:
    """Show a run as it is now: picture, gates that wait and how to decide, and a table of the stages."""
    workflow = run.workflow
    now = run.engine.database.clock()
    gates = [stage for stage in workflow.stages if _asks(stage)]
    missing = [] if workflow.status.is_complete else run.waiting_for_code()
    facts = f"{run.id} · {_facts(workflow, now)}"
    before = _HEADING.format(workflow.name, facts)
    before += join(_gate(run, stage) for stage in gates)
    if missing:
        before += _CODE.format(LOOKS[S.SUSPENDED].symbol, ", ".join(missing))
    text = [f"{workflow.name} · {facts}", *to_text(workflow, notes=_notes(workflow, now)).splitlines()[1:]]
    text += [line for stage in gates for line in _gate_lines(run, stage)]
    text += [f"{LOOKS[S.SUSPENDED].symbol} waits for code: {', '.join(missing)}"] if missing else []
    return _bundle(workflow, direction, text="\n".join(text), before=before, after=_progress(workflow, now).html())


def _bundle(
    workflow: Workflow, direction: Direction, *, text: str, before: Markup = _NOTHING, after: Markup = _NOTHING
) -> Bundle:
    if settings().display == "text":
        return {"text/plain": text}
    svg = svg_of(workflow, direction=direction)
    image = _IMAGE.format(describe(workflow), data_uri(svg))
    return {"text/html": str(before + image + after), "image/svg+xml": svg, "text/plain": text}


# -- flows --------------------------------------------------------------------------------------------


def _count(number: int) -> str:
    return "1 stage" if number == 1 else f"{number} stages"


def _inputs(flow: Flow) -> Iterator[str]:
    inputs = [name if needed else f"{name} (optional)" for name, needed in flow.inputs.items()]
    if inputs:
        yield f"inputs: {', '.join(inputs)}"


def _flow_row(flow: Flow, stage: FlowStage) -> list[str]:
    requisites = flow.requisites(stage)
    follows = [name for name in flow.stages if name in requisites]
    takes = [name for name in stage.parameters if name not in flow.stages and name not in {"stage", "progress"}]
    return [stage.name, ", ".join(follows), ", ".join(takes), ", ".join(_settings(stage)), _purpose(stage)]


def _settings(stage: FlowStage) -> Iterator[str]:
    given = stage.settings
    if given.get("join") not in {None, "all"}:
        yield f"join {given['join']}"
    if given.get("retry"):
        yield f"retry {given['retry']}"
    if given.get("timeout"):
        yield f"timeout {duration(round(given['timeout'] * 1_000))}"
    if given.get("form"):
        yield f"form: {', '.join(given['form'])}"


def _purpose(stage: FlowStage) -> str:
    if stage.is_gate:
        return shorten(stage.settings["question"], ERROR_COLUMNS)
    said = stage.settings.get("title") or (stage.function.__doc__ if stage.function is not None else "") or ""
    return shorten(said.strip().partition("\n")[0], ERROR_COLUMNS)


def _stage_row(stage: StageExecution) -> list[str]:
    tasks = ", ".join(task.implementing_class for task in stage.tasks)
    return [stage.ref_id, ", ".join(sorted(stage.requisite_stage_ref_ids)), tasks]


# -- runs ---------------------------------------------------------------------------------------------


def _wall() -> int:
    return time.time_ns() // 1_000_000


def status_of(workflow: Workflow) -> WorkflowStatus:
    """Return the status that a person wants to know: a running workflow that only waits is waiting."""
    statuses = {stage.status for stage in workflow.stages}
    if workflow.status is S.RUNNING and S.SUSPENDED in statuses and S.RUNNING not in statuses:
        return S.SUSPENDED
    return workflow.status


def _facts(workflow: Workflow, now: int) -> str:
    look = LOOKS[status_of(workflow)]
    done = sum(stage.status.is_complete for stage in workflow.stages)
    facts = [f"{look.symbol} {look.word}", f"{done} of {_count(len(workflow.stages))}"]
    if workflow.start_time is not None:
        facts.append(duration((workflow.end_time or now) - workflow.start_time))
    if workflow.error and workflow.status in FAILURE:
        facts.append(shorten(workflow.error, ERROR_COLUMNS))
    return " · ".join(facts)


def _progress(workflow: Workflow, now: int) -> Table:
    columns = ("status", "stage", "started", "duration", "attempts", "error")
    return Table(columns, [_progress_row(stage, now) for stage in workflow.stages])


def _progress_row(stage: StageExecution, now: int) -> list[str]:
    look = LOOKS[stage.status]
    attempts = sum(task.attempt for task in stage.tasks)
    return [
        f"{look.symbol} {look.word}",
        stage.ref_id + (f" (round {stage.generation + 1})" if stage.generation else ""),
        moment(stage.start_time, now),
        _took(stage, now),
        str(attempts) if attempts and not _is_gate(stage) else "",
        shorten((stage.error or "").strip().rpartition("\n")[2], ERROR_COLUMNS),
    ]


def _took(stage: StageExecution, now: int) -> str:
    if stage.start_time is None:
        return ""
    return duration((now if stage.end_time is None else stage.end_time) - stage.start_time)


def _notes(workflow: Workflow, now: int) -> Mapping[str, str]:
    return {stage.ref_id: _took(stage, now) for stage in workflow.stages}


# -- gates --------------------------------------------------------------------------------------------


def _is_gate(stage: StageExecution) -> bool:
    return stage.type == "approval" or any(task.implementing_class == "approval" for task in stage.tasks)


def _asks(stage: StageExecution) -> bool:
    return stage.status is S.SUSPENDED and _is_gate(stage)


def _gate(run: Run, stage: StageExecution) -> Markup:
    context = stage.context
    shown = _SHOWN.format(_preview(context["show"])) if context.get("show") is not None else _NOTHING
    return _GATE.format(
        LOOKS[stage.status].symbol, stage.ref_id, context.get("message") or "", shown, _form(context.get("form")),
        *_answers(run, stage),
    )  # fmt: skip


def _gate_lines(run: Run, stage: StageExecution) -> Iterator[str]:
    context = stage.context
    yield ""
    yield f"{LOOKS[stage.status].symbol} {stage.ref_id} waits for a decision: {context.get('message') or ''}"
    if context.get("show") is not None:
        yield from (f"  | {line}" for line in _preview(context["show"]).splitlines())
    yield f"  {_form(context.get('form'))}{' or '.join(_answers(run, stage))}"


def _answers(run: Run, stage: StageExecution) -> tuple[str, str]:
    fields = "".join(f" {name}=…" for name in stage.context.get("form") or ())
    return f"%workflow approve {run.id}/{stage.ref_id}{fields}", f"%workflow reject {run.id}/{stage.ref_id}"


def _form(fields: Mapping[str, Any] | None) -> str:
    """Say what a form asks for: "note (str), grade (1, 2 or 3): "."""
    said = [f"{name} ({_kind(kind)})" for name, kind in (fields or {}).items()]
    return f"{', '.join(said)}: " if said else ""


def _kind(kind: Any) -> str:
    if not isinstance(kind, list):
        return str(kind)
    *first, last = map(str, kind) if kind else ("nothing",)
    return f"{', '.join(first)} or {last}" if first else last


def _preview(value: Any) -> str:
    """Return what is to be approved, as text that fits a page."""
    text = "\n".join(_preview_lines(value))
    return text if len(text) <= PREVIEW else f"{text[:PREVIEW]}… ({len(text) - PREVIEW} characters more)"


def _preview_lines(value: Any) -> Iterator[str]:
    parts = [f"{name}: {each}" for name, each in value.items()] if isinstance(value, dict) and value else [str(value)]
    for line in "\n".join(parts).splitlines():
        words = line.lstrip(" ")
        yield " " * (len(line) - len(words)) + shorten(words, PREVIEW)


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
