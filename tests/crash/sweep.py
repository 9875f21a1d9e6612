"""
Kills a process at every commit of a shape, lets another go on, and looks whether anything was lost, stuck or doubled.

    python -m tests.crash.sweep [SHAPE ...] [--journal WAL] [--where before,after] [--again 0] [--stride 1] [--json]

The processes are forks of this one, which has imported everything and opened nothing, so a death costs a few
milliseconds. What is compared: statuses and outputs with those of a run that nobody killed, effects outside the
database with the prediction (once, and once more for a body that had run when its process died), and the invariants.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tests.crash.shapes import SHAPES
from tests.crash.victim import Fuse, Moment, Victim, predicted

#: Later kills during a recovery are tried at so many moments at most; random, from a seed of the shape's name.
AGAIN = 5


@dataclass
class Tally:
    """What a sweep has found; `seconds` are those from a fork to the end of a recovery."""

    scenarios: int = 0
    again: int = 0
    repeated: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def forked(work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a process of its own; None when it was killed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            answer = json.dumps(work())
        except BaseException:  # the other process reports it
            answer = json.dumps({"crashed": traceback.format_exc()})
        with os.fdopen(writer, "w") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    found = json.loads(answer) if answer else None
    if isinstance(found, dict) and "crashed" in found:
        raise RuntimeError(found["crashed"])
    return found


class Sweep:
    """All kills of one shape."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.shape = SHAPES[name]
        self.folder = folder
        self.tally = Tally()
        self._random = random.Random(name)
        self._made = 0

    def run(self, wheres: list[str], again: int, stride: int) -> Tally:
        """Kill at every `stride`-th moment of each kind, and `again` times during the recovery after it."""
        template = self._fresh()
        forked(lambda: self._prepare(template))
        plain = self._copy(template)
        reference = forked(lambda: self._live(plain, None))
        if reference["broken"]:
            self.tally.wrong.append(f"{self.name}, not killed: {reference['broken']}")
        for where in wheres:
            count = reference["statements" if where == "statement" else "commits"]
            for nth in range(1, count + 1, stride):
                self._kill(template, reference, Moment(where, nth), again)
        return self.tally

    def _kill(self, template: Path, reference: dict[str, Any], moment: Moment, again: int) -> None:
        folder = self._copy(template)
        if forked(lambda: self._live(folder, moment)) is not None:
            return  # the run took fewer commits this time: threads make them in another order
        self._recover(folder, reference, [moment])
        for _ in range(again):
            folder = self._copy(template)
            second = Moment(self._random.choice(["before", "after"]), self._random.randint(1, 12))
            if forked(lambda folder=folder: self._live(folder, moment)) is None:
                if forked(lambda folder=folder, second=second: self._live(folder, second)) is None:
                    self.tally.again += 1
                    self._recover(folder, reference, [moment, second])
                else:
                    shutil.rmtree(folder)

    def _recover(self, folder: Path, reference: dict[str, Any], moments: list[Moment]) -> None:
        self.tally.scenarios += 1
        expected = forked(lambda: predicted(folder, reference["effects"]))
        begun = time.perf_counter()
        found = forked(lambda: self._live(folder, None))
        self.tally.seconds.append(time.perf_counter() - begun)
        self.tally.repeated += sum(expected.values()) - sum(reference["effects"].values())
        wrong = list(found["broken"])
        if self.shape.racing:
            if found["stages"]["0"] != reference["stages"]["0"]:
                wrong.append(f"ended {found['stages']['0']}")
            wrong += [f"{ref} ran {n} times" for ref, n in found["effects"].items() if n > max(1, expected.get(ref, 0))]
        else:
            if found["stages"] != reference["stages"]:
                wrong.append(f"{found['stages']} and not {reference['stages']}")
            if found["effects"] != expected:
                wrong.append(f"effects {found['effects']}, predicted {expected}")
        if wrong:
            self.tally.wrong.append(f"{self.name}, killed {moments}: {'; '.join(wrong)}")
        shutil.rmtree(folder)

    def _prepare(self, folder: Path) -> None:
        victim = Victim(folder, self.shape)
        victim.prepare()
        victim.close()

    def _live(self, folder: Path, moment: Moment | None) -> dict[str, Any]:
        victim = Victim(folder, self.shape)
        fuse = Fuse(moment)
        fuse.light(victim.database)
        victim.drive()
        report = victim.report()
        victim.close()
        return {**report, "commits": fuse.commits, "statements": fuse.statements}

    def _fresh(self) -> Path:
        self._made += 1
        folder = self.folder / str(self._made)
        folder.mkdir()
        return folder

    def _copy(self, template: Path) -> Path:
        folder = self._fresh()
        for file in template.iterdir():
            shutil.copy(file, folder / file.name)
        return folder


def sweep(names: list[str], wheres: list[str], again: int, stride: int) -> Iterator[tuple[str, Tally]]:
    """Sweep shapes one after the other."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            yield name, Sweep(name, Path(folder)).run(wheres, again, stride)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--journal", default="WAL", show_default=True, type=click.Choice(["WAL", "TRUNCATE"]))
@click.option("--where", default="before,after", show_default=True, help="before, after (a commit), statement")
@click.option("--again", default=0, show_default=True, help="Further kills during each recovery.")
@click.option("--stride", default=1, show_default=True, help="Every how many moments.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each shape.")
def main(names: tuple[str, ...], journal: str, where: str, again: int, stride: int, as_json: bool) -> None:
    """Sweep the shapes named, or all."""
    os.environ["STABILIZE_SQLITE_JOURNAL_MODE"] = journal
    failed = False
    for name, tally in sweep(list(names) or list(SHAPES), where.split(","), again, stride):
        failed = failed or bool(tally.wrong)
        if as_json:
            print(json.dumps({"shape": name, "journal": journal, **vars(tally)}), flush=True)
        else:
            slowest = max(tally.seconds, default=0)
            print(f"{name:26} {tally.scenarios:5} kills  {tally.again:4} twice  {tally.repeated:4} bodies again  "
                  f"slowest recovery {slowest:.2f} s  {len(tally.wrong)} wrong", flush=True)  # fmt: skip
            for line in tally.wrong[:3]:
                print("   ", line[:1500], flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
