"""Kill a workflow at each of its commits and in the middle of its bodies, and see which tasks cannot bear it."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stabilize_nb.engine import Definition
from stabilize_nb.errors import ConfigError, PreconditionError
from stabilize_nb.flow import Flow
from stabilize_nb.models.workflow import Workflow
from stabilize_nb.store.database import open_databases
from stabilize_nb.tasks.registry import TaskRegistry
from stabilize_nb.testing.bar import Bar
from stabilize_nb.testing.forks import Child, ForkError, Say, Work, fan_out, forked, scratch, told_by
from stabilize_nb.testing.fuse import Moment
from stabilize_nb.testing.outside import Harm, Seen, differences
from stabilize_nb.testing.subject import Decision, Subject, read_notes, rehearse

if TYPE_CHECKING:
    import pandas as pd

#: Runs at a time for each core: a run waits for its threads and its disk most of its time.
JOBS = 3
VERDICTS = ("untried", "safe", "repeated", "lost")


def crash_sweep(
    work: Flow | Workflow,
    inputs: Mapping[str, Any] | None = None,
    *,
    registry: TaskRegistry | None = None,
    decisions: Mapping[str, Decision] | None = None,
    files: Sequence[str | os.PathLike[str]] = (),
    setup: Callable[[], Any] | None = None,
    effects: Callable[[], Any] | None = None,
    limit: int = 1_000,
    timeout: float = 30.0,
    jobs: int | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """
    Kill a workflow at each of its commits and in its bodies, go on in a new process, and name the tasks that suffer.

    The workflow is run twice undisturbed, in a scratch folder that is the working folder of its bodies. Then it is run
    once for each moment: a process is killed (SIGKILL) there, another one ends the run, and the world is compared with
    that of the undisturbed runs. The moments are before and after each commit, and in each body before it opens a file
    for writing, renames, deletes, connects or starts a process, around each `effect`, and at its end.

    The world: files in the working folder (SQLite databases by their rows), effects that bodies marked with
    `stabilize_nb.testing.effect`, what `effects()` returns at the end of a run, and the results of stages. What differs
    between the undisturbed runs too (times, random names) is compared by number and size alone. What a body does
    elsewhere, such as in a database by an absolute path or on a server, is not seen without `effects`.

    - `registry`: the tasks of a Workflow. `decisions`: gate -> choice, or (choice, {field: value}).
    - `files`: files and folders that bodies need, copied into the working folder. `setup()` is called in that folder
      before each run: it makes what bodies find, and puts back what they change elsewhere.
    - `limit`: moments that are tried at most, spread evenly. `timeout`: seconds a run may take. `jobs`: runs at a time
      (default: three for each core, and one with `effects`, since all runs have one outside). `progress`: whether a bar
      is shown (default: where a person looks).

    Returns a frame with a row for each task, in the order in which they first ran: task (str), verdict (category:
    untried < safe < repeated < lost), safe, repeated and lost (int64: kills after which the body was run again and the
    world was as it should be, had too much in it, or too little), moments (list of str: the kills that did harm).
    `attrs` has scenarios (int) and seconds (float).

    Raises PreconditionError when the workflow fails or waits for somebody without being killed, and ConfigError for
    what cannot be swept.

    For example:

        >>> from stabilize_nb import Flow
        >>> from stabilize_nb.testing import crash_sweep
        >>> flow = Flow("notes")
        >>> @flow.stage
        ... def add(line):
        ...     with open("notes.txt", "a") as file:  # a second call writes a second line
        ...         file.write(line)
        >>> crash_sweep(flow, {"line": "tea"})[["task", "verdict"]]
          task   verdict
        0  add  repeated
    """
    subject = Subject(
        work=_checked(work), inputs=inputs or {}, registry=registry or TaskRegistry(), decisions=decisions or {},
        files=_found(files), setup=setup, effects=effects, timeout=timeout,
    )  # fmt: skip
    at_once = 1 if effects is not None else JOBS * (os.cpu_count() or 1)
    begun = time.monotonic()
    found: list[dict[str, Any]] = []
    tasks: list[str] = []
    with (
        scratch() as folder,
        Bar(progress) as bar,
        closing(_told(subject, Path(folder), limit, jobs or at_once)) as voices,
    ):
        for kind, told in voices:
            match kind:
                case "refused":
                    raise PreconditionError(told)
                case "tasks":
                    tasks = told
                case "moments":
                    bar.total = told
                case _:
                    found += [told] if told is not None else []
                    bar.step(sum(bool(each["harms"]) for each in found))
    report = _frame(tasks, found)
    report.attrs |= {"scenarios": len(found), "seconds": round(time.monotonic() - begun, 2)}
    return report


def _checked(work: Any) -> Definition | Workflow:
    if not hasattr(os, "fork"):
        msg = "crash_sweep needs a system that can fork a process, such as Linux or macOS"
        raise ConfigError(msg)
    if not isinstance(work, Flow | Workflow):
        msg = f"crash_sweep got {type(work).__name__}; a Flow is expected, or a Workflow with registry=..."
        raise ConfigError(msg)
    return work


def _found(files: Sequence[str | os.PathLike[str]]) -> list[Path]:
    paths = [Path(file).absolute() for file in files]
    if missing := [str(path) for path in paths if not path.exists()]:
        msg = f"crash_sweep cannot find {', '.join(missing)}; files=[...] are taken from the folder of this process"
        raise ConfigError(msg)
    return paths


# -- the process that forks ---------------------------------------------------------------------------


def _told(subject: Subject, folder: Path, limit: int, jobs: int) -> Generator[Any, None, None]:
    """Yield what the sweep tells, from a process of its own."""

    def work(say: Say) -> None:
        os.setsid()
        _be_silent()
        for told in _swept(subject, folder, limit, jobs):
            say(told)

    born: list[Child] = []
    thread = threading.Thread(target=lambda: born.append(_alone(work)), name="stabilize-fork")
    thread.start()
    thread.join()
    return told_by(born, silence=2 * subject.timeout + 60)


def _alone(work: Work) -> Child:
    """
    Fork a process of a kernel, which has threads and open databases; called by a thread that is never interrupted.

    The fork has only the thread that asks for it, so no other may be inside SQLite just then. It opens what it needs
    itself and leaves alone what was open.
    """
    with ExitStack() as held, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        for database in open_databases():
            held.enter_context(database.at_rest())
        return Child(work)


def _be_silent() -> None:
    """Say nothing that would appear in the output of a cell."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - as long as the process lives
    logging.disable()


def _swept(subject: Subject, folder: Path, limit: int, jobs: int) -> Iterator[tuple[str, Any]]:
    rehearse()
    gc.freeze()  # what was made so far: a collection in a fork would copy all of it
    trial = Trial(subject, folder)
    try:
        subject.define()
        forked(lambda: subject.prepare(trial.template))
        wrong = trial.run_undisturbed()
    except ForkError as error:
        wrong = f"the workflow could not be run: {str(error).strip().rpartition(chr(10))[2]}"
    if wrong:
        yield "refused", wrong
        return
    moments = trial.moments(limit)
    yield "tasks", [*trial.once.begun]
    yield "moments", len(moments)
    for told in fan_out(trial.run, [*enumerate(moments)], jobs):
        yield "scenario", told


class Trial:
    """The runs of a subject, each in a copy of the folder `template`."""

    once: Seen
    again: Seen

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.template = folder / "template"
        self._subject = subject
        self._folder = folder

    def run_undisturbed(self) -> str:
        """Run the subject twice, and return what is wrong with that."""
        folders = [self._copy(name) for name in ("once", "again")]
        at_once = 1 if self._subject.effects is not None else len(folders)
        seen = []
        for found in fan_out(lambda folder: self._lived(folder, with_authors=True), folders, at_once):
            if found is None:
                return "the workflow ends its own process, without being killed"
            if found["wrong"]:
                return f"the workflow does not succeed without being killed: {found['wrong']}"
            seen.append(Seen(**found))
        self.once, self.again = seen
        return ""

    def moments(self, limit: int) -> list[Moment]:
        """Return the moments at which to kill, at most `limit`: the first, the last, and those evenly between them."""
        found = [
            Moment(where, nth)
            for where in ("before", "after", "inside")
            for nth in range(1, self.once.counts.get(where, 0) + 1)
        ]
        if len(found) <= limit:
            return found
        step = (len(found) - 1) / max(1, limit - 1)
        return [found[len(found) - 1 - round(at * step)] for at in reversed(range(limit))]

    def run(self, numbered: tuple[int, Moment]) -> dict[str, Any] | None:
        """Kill at a moment, go on, and return who was struck and what harm was done; None: it was not reached."""
        number, moment = numbered
        folder = self._copy(str(number))
        try:
            if self._seen(folder, moment) is not None:
                return None
            at_work = [note["begin"] for note in read_notes(folder) if "begin" in note][-1:]
            seen = self._seen(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        begun = seen.begun if seen else dict.fromkeys(at_work, sys.maxsize)
        struck = {task for task, times in begun.items() if times > self.once.begun.get(task, 0)}
        place = f"in {', '.join(at_work)}, at moment" if moment.where == "inside" else f"{moment.where} commit"
        return {"struck": sorted(struck), "harms": self._harms(seen, struck, at_work),
                "moment": f"killed {place} {moment.nth}"}  # fmt: skip

    def _harms(self, seen: Seen | None, struck: set[str], at_work: list[str]) -> list[tuple[str, Harm, str]]:
        """Return who did which harm: of those that were struck whoever writes the thing, else whoever can have."""
        if seen is None:
            return [(task, "lost", "the process that went on died") for task in at_work]
        harms = []
        for each in differences(seen.world, self.once.world, self.again.world):
            authors = set(self.once.authors.get(each.thing, ()))
            blamed = struck & authors or struck or authors or set(at_work)
            harms += [(task, each.harm, each.told) for task in sorted(blamed)]
        return harms

    def _copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.template, self._folder / name, symlinks=True))

    def _seen(self, folder: Path, moment: Moment | None = None) -> Seen | None:
        found = self._lived(folder, moment)
        return None if found is None else Seen(**found)

    def _lived(self, folder: Path, moment: Moment | None = None, *, with_authors: bool = False) -> Any:
        return forked(lambda: asdict(self._subject.live(folder, moment, with_authors=with_authors)))


# -- the frame ----------------------------------------------------------------------------------------


def _frame(tasks: Sequence[str], found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row for each task."""
    import pandas as pd  # noqa: PLC0415 - only who wants a frame waits for pandas

    rows = [_row(task, found) for task in tasks]
    frame = pd.DataFrame(rows, columns=["task", "verdict", "safe", "repeated", "lost", "moments"])
    frame["verdict"] = pd.Categorical(frame["verdict"], VERDICTS, ordered=True)
    return frame.astype({"task": str, "safe": "int64", "repeated": "int64", "lost": "int64"})


def _row(task: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    moments = []
    for scenario in found:
        harms = {harm: told for name, harm, told in scenario["harms"] if name == task}
        harm = next((each for each in ("lost", "repeated") if each in harms), "safe")
        if harms or task in scenario["struck"]:
            counts[harm] += 1
        if harms:
            moments.append(f"{scenario['moment']}: {harms[harm]}")
    verdict = next((each for each in reversed(VERDICTS) if counts[each]), "untried")
    return {"task": task, "verdict": verdict, **{each: counts[each] for each in VERDICTS[1:]}, "moments": moments}
