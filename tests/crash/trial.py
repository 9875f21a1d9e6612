"""
One scenario: a workflow whose processes are killed, or whose disk fails, and a process that ends it afterwards.

What is compared: statuses and outputs with those of a run that nobody disturbed, effects outside the database with the
prediction (once, and once more for a body that had run when its process died), and the invariants I1 to I8.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stabilize_nb.errors import StabilizeError
from stabilize_nb.queue.processor import journal_rows, worker
from stabilize_nb.testing.forks import forked
from stabilize_nb.testing.fuse import Fuse, Moment
from tests.crash.disk import Disk, Fault
from tests.crash.shapes import SHAPES
from tests.crash.victim import PATIENCE, Victim, left_in

#: What befalls the processes of a scenario, one after the other.
Troubles = Sequence[Moment | Fault]
#: Seconds before a store that failed is tried again, here.
RETRY = 0.02


@dataclass(frozen=True)
class Verdict:
    """What a scenario came to; `repeated`: bodies run again, `wrong`: what should not be, "" if nothing."""

    repeated: int
    wrong: str


class Trial:
    """A shape, what an undisturbed run of it comes to (`reference`), and its scenarios."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.shape = SHAPES[name]
        self._folder = folder
        self._template = folder / "template"
        self._template.mkdir()
        forked(self._prepare)
        self.reference = forked(lambda: self._live(self._copy("plain"), None, count=True))

    def run(self, number: int, troubles: Troubles) -> Verdict | None:
        """Return what a scenario came to; None when the run took fewer commits or operations this time."""
        folder = self._copy(str(number))
        try:
            for trouble in troubles:
                found = forked(lambda trouble=trouble: self._live(folder, trouble))
                if found is not None:
                    return self._judge_failed(troubles, found) if found["failed"] else None
            return self._judge_killed(troubles, folder)
        finally:
            self._drop(folder)

    def _judge_killed(self, troubles: Troubles, folder: Path) -> Verdict:
        """End what the dead have left, and compare."""
        left = left_in(folder)
        expected = left.predicted(self.reference["effects"])
        found = forked(lambda: self._live(folder, None))
        wrong = [*found["broken"], *([f"{left.lost} facts lost"] if left.lost else [])]
        if self.shape.once:
            return self._verdict(troubles, 0, [*wrong, *_repeated(found, troubles)])
        if self.shape.racing:
            if found["stages"]["0"] != self.reference["stages"]["0"]:
                wrong.append(f"ended {found['stages']['0']}")
            wrong += [f"{ref} ran {n} times" for ref, n in found["effects"].items() if n > max(1, expected.get(ref, 0))]
        else:
            wrong += self._differing(found)
            if found["effects"] != expected:
                wrong.append(f"effects {found['effects']}, predicted {expected}")
        repeated = sum(expected.values()) - sum(self.reference["effects"].values())
        return self._verdict(troubles, repeated, wrong)

    def _judge_failed(self, troubles: Troubles, found: dict[str, Any]) -> Verdict:
        """Compare what a process came to that lived on: it may have run one body again."""
        wrong = list(found["broken"])
        if self.shape.once:
            return self._verdict(troubles, 0, [*wrong, *_repeated(found, troubles)])
        again = {ref: n - self.reference["effects"].get(ref, 0) for ref, n in found["effects"].items()}
        repeated = sum(n for n in again.values() if n > 0)
        if not self.shape.racing:
            wrong += self._differing(found)
            wrong += [f"repeated {again}"] if repeated > 1 else []
        return self._verdict(troubles, repeated, wrong and [*wrong, f"after {found['errors']}"])

    def _differing(self, found: dict[str, Any]) -> list[str]:
        expected = self.reference["stages"]
        return [] if found["stages"] == expected else [f"{found['stages']} and not {expected}"]

    def _verdict(self, troubles: Troubles, repeated: int, wrong: list[str]) -> Verdict:
        return Verdict(max(0, repeated), f"{self.name}, {list(troubles)}: {'; '.join(wrong)}" if wrong else "")

    def _prepare(self) -> None:
        victim = Victim(self._template, self.shape)
        victim.prepare()
        victim.close()

    def _copy(self, name: str) -> Path:
        return Path(shutil.copytree(self._template, self._folder / name))

    def _drop(self, folder: Path) -> None:
        shutil.rmtree(folder)

    def _live(self, folder: Path, trouble: Moment | Fault | None, count: bool = False) -> dict[str, Any]:
        """Drive the shape; whoever gets an error of the disk tries again, as a person would."""
        fault = trouble if isinstance(trouble, Fault) else None
        disk = Disk(fault) if fault or count else None
        fuse = Fuse(trouble if isinstance(trouble, Moment) else None)
        worker.STORE_RETRY = journal_rows.RETRY = RETRY
        errors: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                victim = Victim(folder, self.shape, fault.durability if fault else "full")
                try:
                    if fault is None:
                        self._light(fuse, victim)
                    elif fault.durability == "full":
                        victim.acknowledge()
                    victim.drive()
                    report = victim.report()
                finally:
                    victim.close()
                break
            except StabilizeError as error:
                errors.append(f"{type(error).__name__}: {error}")
                if disk is None or time.monotonic() > deadline:
                    raise
        return {**report, "counts": {**fuse.counts, **(disk.counts if disk else {})},
                "failed": disk.failed if disk else 0, "errors": errors}  # fmt: skip

    def _light(self, fuse: Fuse, victim: Victim) -> None:
        fuse.light()
        if fuse.moment is None or fuse.moment.where == "statement":
            fuse.trace(victim.database)


def _repeated(found: dict[str, Any], troubles: Troubles) -> list[str]:
    """Return the bodies that were run twice, and a run that neither succeeded nor says that a process died."""
    status, error = found["stages"]["0"]
    if status != "SUCCEEDED" and "outcome unknown: the process died while it ran" not in (error or ""):
        return [f"ended {status}: {error}"]
    if any(isinstance(trouble, Fault) and trouble.durability == "normal" for trouble in troubles):
        return []  # that a body was begun is not kept when the power is lost
    return [f"{ref} ran {count} times" for ref, count in found["effects"].items() if count > 1]
