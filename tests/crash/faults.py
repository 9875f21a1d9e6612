"""
Lets the disk fail at every operation of a shape, and looks whether anything was lost, stuck or doubled (R2, R3).

    python -m tests.crash.faults [SHAPE ...] [--journal WAL] [--what kill,error,full,power] [--stride 1] [--json]
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from stabilize_nb.errors import StabilizeError
from tests.crash.disk import KINDS, Disk, Fault
from tests.crash.shapes import SHAPES
from tests.crash.sweep import Sweep, Tally, forked
from tests.crash.victim import PATIENCE, Victim

#: Power is lost so many times at each moment: each time the disk has kept something else.
LOSSES = 1
_WRONG = {"kill": KINDS, "power": KINDS, "error": KINDS, "full": ("write",)}


class Faults(Sweep):
    """All faults of one shape."""

    def fail(self, whats: list[str], stride: int) -> Tally:
        """Have every `stride`-th operation go wrong in each way."""
        template = self._fresh()
        forked(lambda: self._prepare(template))
        plain = self._copy(template)
        reference = forked(lambda: self._work(plain, None))
        for what in whats:
            for kind in _WRONG[what]:
                for nth in range(1, reference["counts"].get(kind, 0) + 1, stride):
                    self._fail(template, reference, Fault(what, kind, nth, seed=nth))
        return self.tally

    def _fail(self, template: Path, reference: dict[str, Any], fault: Fault) -> None:
        folder = self._copy(template)
        found = forked(lambda: self._work(folder, fault))
        if found is None:
            self._recover(folder, reference, [fault])
            return
        if not found["failed"]:
            return  # the run took fewer operations this time
        self.tally.scenarios += 1
        wrong = list(found["broken"])
        if not self.shape.racing and found["stages"] != reference["stages"]:
            wrong.append(f"{found['stages']} and not {reference['stages']}")
        again = {ref: n - reference["effects"].get(ref, 0) for ref, n in found["effects"].items()}
        repeated = sum(n for n in again.values() if n > 0)
        self.tally.repeated += repeated
        if repeated > 1 and not self.shape.racing:
            wrong.append(f"repeated {again}")
        if wrong:
            self.tally.wrong.append(f"{self.name}, {fault}: {'; '.join(wrong)} after {found['errors']}")
        shutil.rmtree(folder)

    def _work(self, folder: Path, fault: Fault | None) -> dict[str, Any]:
        """Drive the shape on a disk that fails; whoever gets an error tries again, as a person would."""
        disk = Disk(fault)
        errors: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                victim = Victim(folder, self.shape)
                try:
                    victim.drive()
                    report = victim.report()
                finally:
                    victim.close()
                break
            except StabilizeError as error:
                errors.append(f"{type(error).__name__}: {error}")
                if time.monotonic() > deadline:
                    raise
        return {**report, "counts": dict(disk.counts), "failed": disk.failed, "errors": errors}


@click.command()
@click.argument("names", nargs=-1)
@click.option("--journal", default="WAL", show_default=True, type=click.Choice(["WAL", "TRUNCATE"]))
@click.option("--what", default="kill,error,full,power", show_default=True)
@click.option("--stride", default=1, show_default=True, help="Every how many operations.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each shape.")
def main(names: tuple[str, ...], journal: str, what: str, stride: int, as_json: bool) -> None:
    """Let the disk fail under the shapes named, or under all."""
    os.environ["STABILIZE_SQLITE_JOURNAL_MODE"] = journal
    logging.getLogger("stabilize_nb").setLevel(logging.CRITICAL)  # the disk fails all the time here
    failed = False
    for name in list(names) or list(SHAPES):
        with tempfile.TemporaryDirectory() as folder:
            tally = Faults(name, Path(folder)).fail(what.split(","), stride)
        failed = failed or bool(tally.wrong)
        if as_json:
            print(json.dumps({"shape": name, "journal": journal, **vars(tally)}), flush=True)
        else:
            print(f"{name:26} {tally.scenarios:5} faults  {tally.repeated:4} bodies again  {len(tally.wrong)} wrong",
                  flush=True)  # fmt: skip
            for line in tally.wrong[:4]:
                print("   ", line[:1800], flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
