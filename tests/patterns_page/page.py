"""
The page of the 43 patterns: words and code are written by hand, pictures and results by what the code does.

Below each heading "### 4. Exclusive Choice" stand its sentence and its code. What follows the code is written here: the
picture of the run that the code leaves in `run`, and its result. So are the contents. The code above the patterns is
run before that of each of them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import stabilize_nb.deterministic as mode
from stabilize_nb import Run
from stabilize_nb.notebook.draw import svg_of
from stabilize_nb.notebook.sketch import describe
from stabilize_nb.notebook.text import to_text

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "patterns.md"
PICTURES: Final = PAGE.parent / "images" / "patterns"

#: The groups of the paper (BPM-06-22), by the numbers of their patterns.
GROUPS: Final[Mapping[str, tuple[int, ...]]] = {
    "Basic control flow": (1, 2, 3, 4, 5),
    "Advanced branching and synchronization": (6, 7, 8, 9, 28, 29, 30, 31, 32, 33, 37, 38, 41, 42),
    "Multiple instances": (12, 13, 14, 15, 34, 35, 36),
    "State-based": (16, 17, 18, 39, 40),
    "Cancellation and force completion": (19, 20, 25, 26, 27),
    "Iteration": (10, 21, 22),
    "Termination": (11, 43),
    "Trigger": (23, 24),
}
#: Statuses of the attempts of a body that came to its end, and how that is shown.
ENDS: Final = {"SUCCEEDED": "", "REDIRECT": " ↩", "FAILED_CONTINUE": " !", "TERMINAL": " ✕", "STOPPED": " ⊘"}
#: Outputs that the engine adds, and stages that do.
ENGINES: Final = ("sub_workflow_", "loop_")

_CODE: Final = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^### (\d+)\. (.+)\n", re.MULTILINE)
_CONTENTS: Final = re.compile(r"(^## Contents\n).*?(?=^## )", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Pattern:
    """One section of the page, without what is made from it."""

    number: int
    name: str
    words: str  # up to the end of the code
    code: str

    @property
    def picture(self) -> str:
        return f"wcp-{self.number:02}.svg"

    @property
    def anchor(self) -> str:
        """The name that GitHub and Sphinx give to the heading."""
        return re.sub(r"[^a-z0-9 -]", "", f"{self.number} {self.name}".lower()).replace(" ", "-")


@dataclass(frozen=True)
class Made:
    """A pattern with what its code has led to."""

    pattern: Pattern
    run: Run

    def section(self) -> str:
        """Write the section."""
        workflow = self.run.workflow
        alternative = describe(workflow).replace("[", "(").replace("]", ")")
        picture = f"![{alternative}](images/patterns/{self.pattern.picture})"
        below = "\n".join(facts(self.run))
        result = f"```text\n{to_text(workflow)}\n\n{below}\n```"
        return f"{self.pattern.words}\n{picture}\n\n{result}\n\n"


def split(page: str) -> tuple[str, str, list[Pattern]]:
    """Return what stands above the patterns, the code in it, and the patterns."""
    starts = [match.start() for match in _HEADING.finditer(page)] + [len(page)]
    sections = [page[start:end] for start, end in itertools.pairwise(starts)]
    above = page[: starts[0]]
    return above, "".join(_CODE.findall(above)), list(map(_pattern, sections))


def _pattern(section: str) -> Pattern:
    heading, code = _HEADING.match(section), _CODE.search(section)
    assert heading is not None
    assert code is not None, f"pattern {heading[1]} has no code"
    return Pattern(int(heading[1]), heading[2], section[: code.end()], code[1])


def made(pattern: Pattern, before: str) -> Run:
    """Run the code of a pattern; the engine stays open."""
    names: dict[str, Any] = {"__name__": "patterns"}
    exec(compile(before, "docs/patterns.md", "exec"), names)
    exec(compile(pattern.code, f"docs/patterns.md, pattern {pattern.number}", "exec"), names)
    return names["run"]


def ran(run: Run) -> str:
    """Name the bodies that came to their end or jumped, in the order in which they did."""
    ended = run.tasks.sort_values("finished", kind="stable")
    ended = ended[ended["status"].isin(ENDS)]
    names = (ref.partition("#")[0] + ENDS[status] for ref, status in zip(ended["ref_id"], ended["status"], strict=True))
    rows = itertools.groupby(names)
    runs = [(ref, len(list(several))) for ref, several in rows]
    return ", ".join(ref if number == 1 else f"{ref} ×{number}" for ref, number in runs) or "nothing"


def facts(run: Run) -> Iterator[str]:
    """Yield what a picture does not show: the order of things, child workflows, outputs."""
    yield f"ran: {ran(run)}"
    names = sorted((row["name"], row["id"]) for row in run.engine.store.list() if row["id"] != run.id)
    for name, id_ in reversed(names):
        yield f"ran in {name}: {ran(run.engine.run(id_))}"
    for stage in run.workflow.stages:
        given = {key: value for key, value in stage.outputs.items() if not key.startswith(ENGINES)}
        if given and not stage.type.startswith(ENGINES):
            yield f"outputs of {stage.ref_id}: {given}"


def contents(patterns: list[Pattern]) -> str:
    """Write the list of patterns by the groups of the paper."""
    known = {pattern.number: pattern for pattern in patterns}
    lines = []
    for group, numbers in GROUPS.items():
        links = (f"[{number} {known[number].name}](#{known[number].anchor})" for number in numbers if number in known)
        lines.append(f"- **{group}**:\n  " + ",\n  ".join(links) + "\n")
    return "".join(lines)


@contextmanager
def _own_mode() -> Iterator[None]:
    """Have what the page says about deterministic mode hold for the page alone."""
    chosen = mode._chosen
    try:
        yield
    finally:
        mode._chosen = chosen


def generate(page: str) -> tuple[str, dict[str, str]]:
    """Return the page with everything that is made from it, and the pictures by their file names."""
    above, before, patterns = split(page)
    sections, pictures = [], {}
    for pattern in patterns:
        with _own_mode():
            run = made(pattern, before)
        with run.engine:
            sections.append(Made(pattern, run).section())
            pictures[pattern.picture] = svg_of(run.workflow) + "\n"
    above = _CONTENTS.sub(lambda match: f"{match[1]}\n{contents(patterns)}\n", above)
    return f"{above}{''.join(sections)}".rstrip() + "\n", pictures
