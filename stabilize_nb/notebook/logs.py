"""
What the tasks of a run printed, as markup: the end of it for each stage, with pictures that were displayed.

Prints may come from a model: markup in them is text, characters that show nothing are shown by their numbers, and
pictures stand in an <img>, where nothing of them can run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from markupsafe import Markup

from stabilize_nb.models.workflow import Workflow
from stabilize_nb.notebook.draw import data_uri
from stabilize_nb.notebook.looks import shorten
from stabilize_nb.notebook.preview import visible
from stabilize_nb.notebook.tables import join
from stabilize_nb.plain import SEQUENCE
from stabilize_nb.printed import Printed, caption

#: Lines that are shown of a stage, columns of a line, and pictures of a stage.
LINES: Final = 200
COLUMNS: Final = 2_000
PICTURES: Final = 4
#: Lines that a picture of the whole run shows of each stage, and of how many stages.
KEPT_LINES: Final = 40
KEPT_STAGES: Final = 20

_LINES: Final = Markup('<pre style="white-space:pre-wrap;overflow-wrap:anywhere;word-break:normal;margin:0">{}</pre>')
_ERROR: Final = Markup('<span style="border-left:3px solid #b26a00;padding-left:5px" title="stderr">{}</span>')
_IMAGE: Final = Markup('<img alt="{}" src="{}" style="max-width:100%;background:#fff">')
_STAGE: Final = Markup("<div><b>{}</b>{}</div>")
_FOLD: Final = Markup("<details><summary>{}</summary>{}</details>")
_PACKED: Final = ("image/png", "image/jpeg")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text, or a picture that stands in its place."""

    text: str
    stream: str = "stdout"
    picture: str = ""

    def html(self) -> Markup:
        """Return it as markup, with its end."""
        shown = visible(SEQUENCE.sub("", self.text)[:COLUMNS])
        if self.picture:
            return _IMAGE.format(shorten(self.text) or "what the task displayed", self.picture) + "\n"
        return (_ERROR.format(shown) if self.stream == "stderr" else Markup("{}").format(shown)) + "\n"


@dataclass(slots=True)
class StageLog:
    """The end of what one stage printed; `count`: of all lines."""

    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=LINES))
    count: int = 0
    open: str = ""  # the stream of a last line that may go on

    def add(self, parts: Iterable[Mapping[str, Any]]) -> StageLog:
        """Take in more of it."""
        for part in parts:
            stream = next((name for name in ("stdout", "stderr") if name in part), "")
            if stream:
                self._write(stream, str(part[stream]))
            else:
                self._display(part)
        return self

    def _display(self, part: Mapping[str, Any]) -> None:
        self.open = ""
        if picture := _picture(part):
            self._append(Line(caption(part), picture=picture))
            return
        for line in caption(part).splitlines():
            self._append(Line(line))

    def _write(self, stream: str, text: str) -> None:
        first, *others = text.split("\n")
        if self.open == stream and self.lines:
            self.lines[-1] = Line(self.lines[-1].text + first, stream)
        elif first or others:
            self._append(Line(first, stream))
        for line in others[:-1]:
            self._append(Line(line, stream))
        self.open = ""
        if others and others[-1]:
            self._append(Line(others[-1], stream))
        if not text.endswith("\n"):
            self.open = stream

    def _append(self, line: Line) -> None:
        self.lines.append(line)
        self.count += 1

    def copy(self) -> StageLog:
        """Return one that can be added to by itself."""
        return StageLog(deque(self.lines, LINES), self.count, self.open)

    def html(self, most: int = LINES) -> Markup:
        """Return the last lines as markup."""
        shown = list(self.lines)[-most:]
        pictures = [line for line in shown if line.picture][-PICTURES:]
        left = self.count - len(shown)
        head = [Markup("… {} lines before\n").format(left)] if left else []
        lines = [line.html() for line in shown if not line.picture or line in pictures]
        return _LINES.format(join([*head, *lines]))


Logs = Mapping[str, StageLog]


def gathered(logs: dict[str, StageLog], printed: Iterable[Printed]) -> dict[str, StageLog]:
    """Add to the logs of stages, by stage id, what was printed; the stage that printed last stands last."""
    for each in printed:
        logs[each.stage_id] = logs.pop(each.stage_id, StageLog()).add(each.parts)
    return logs


def count_words(logs: Logs) -> str:
    """Say how much there is."""
    count = sum(log.count for log in logs.values())
    lines = "1 line" if count == 1 else f"{count} lines"
    return f"{lines} of {len(logs)} stages" if len(logs) > 1 else lines


def names_of(workflow: Workflow, logs: Logs) -> dict[str, str]:
    """Return the names of the stages that have printed, by stage id, in the order of the workflow."""
    return {stage.id: stage.ref_id for stage in workflow.stages if stage.id in logs}


def log_html(workflow: Workflow, logs: Logs, most: int = LINES, stages: int = KEPT_STAGES) -> Markup:
    """Return the logs of the stages that printed last, each under its name."""
    names = names_of(workflow, logs)
    shown = [stage_id for stage_id in logs if stage_id in names][-stages:]
    return join(_STAGE.format(names[stage_id], logs[stage_id].html(most)) for stage_id in shown)


def folded_log(workflow: Workflow, logs: Logs) -> Markup:
    """Return the logs for a page without a kernel; empty when nothing was printed."""
    if not logs:
        return Markup()
    return _FOLD.format(f"log: {count_words(logs)}", log_html(workflow, logs, KEPT_LINES))


def log_lines(workflow: Workflow, logs: Logs, most: int) -> Iterator[str]:
    """Yield the last lines of all stages as text."""
    names = names_of(workflow, logs)
    lines: Sequence[str] = [
        f"  {names[stage_id]}: {shorten(line.text, COLUMNS)}"
        for stage_id, log in logs.items()
        if stage_id in names
        for line in log.lines
    ]
    if lines:
        yield f"log: {count_words(logs)}" + (" (run.log() gives all)" if len(lines) > most else "")
        yield from lines[-most:]


def _picture(part: Mapping[str, Any]) -> str:
    if "image/svg+xml" in part:
        return data_uri(str(part["image/svg+xml"]))
    return next((f"data:{kind};base64,{part[kind]}".replace("\n", "") for kind in _PACKED if kind in part), "")
