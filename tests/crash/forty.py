"""
Sweep forty habits and say how quickly: `python -m tests.crash.forty`.

Half of them bear to be run again and half do not, a few in each workflow. The rate counts everything that
`crash_sweep` does, also its undisturbed runs.
"""

from __future__ import annotations

from typing import NamedTuple

from stabilize_nb import Flow
from stabilize_nb.testing import crash_sweep
from tests.crash import habits

#: Tasks of a workflow: half of them good, half bad, one behind the other.
TOGETHER = 4


class Found(NamedTuple):
    """What came of it: verdict by task, and how many scenarios took how many seconds."""

    verdicts: dict[str, str]
    scenarios: int
    seconds: float

    @property
    def caught(self) -> list[str]:
        """Those that do not bear it and were found."""
        return [body.__name__ for body in habits.BAD if self.verdicts[body.__name__] in ("repeated", "lost")]

    @property
    def accused(self) -> list[str]:
        """Those that bear it and were accused."""
        return [body.__name__ for body in habits.GOOD if self.verdicts[body.__name__] != "safe"]

    def __str__(self) -> str:
        return (
            f"crash_sweep: {self.scenarios} scenarios, {self.scenarios / self.seconds:.1f} a second; "
            f"{len(self.caught)} of 20 found, {len(self.accused)} of 20 accused"
        )


def sweep() -> Found:
    """Sweep them all."""
    pairs = [task for pair in zip(habits.GOOD, habits.BAD, strict=True) for task in pair]
    verdicts: dict[str, str] = {}
    scenarios, seconds = 0, 0.0
    for at in range(0, len(pairs), TOGETHER):
        flow = Flow(f"habits{at}")
        before: tuple[str, ...] = ()
        for body in pairs[at : at + TOGETHER]:
            before = (flow.stage(after=before)(body).name,)
        report = crash_sweep(flow, setup=habits.setup, progress=False)
        verdicts |= dict(zip(report["task"], report["verdict"], strict=True))
        scenarios += report.attrs["scenarios"]
        seconds += report.attrs["seconds"]
    return Found(verdicts, scenarios, seconds)


if __name__ == "__main__":
    print(sweep())
