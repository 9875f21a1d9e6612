"""
A mixed load of small workflows through one engine with retention on: nothing may grow (R23).

    python -m tests.crash.soak [--stages 50000] [--json]

Chains, diamonds with retries and durable steps, and gates that are approved at once. After each round what had ended is
pruned but for the newest runs, and memory, descriptors, file and the longest wait for a batch are noted. Growth is
judged from the end of the first fifth on: until then caches fill. The load is the same in each round.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import psutil

from stabilize_nb import Engine, Flow, QueueProcessorConfig, TransientError
from stabilize_nb.models.stage import StageExecution

#: Runs that retention keeps, stages after which it is called, and how often the load is started at a time.
KEPT, ROUND, TIMES = 50, 500, 10
#: The part of the rounds that are not judged.
WARM = 0.2

chain = Flow("chain")
diamond = Flow("diamond")
asking = Flow("asking")
for at in range(4):
    chain.stage(name=f"s{at}", after=f"s{at - 1}" if at else None)(lambda stage: stage.ref_id)


@diamond.stage
def split(stage: StageExecution) -> dict[str, object]:
    return {"text": "x" * 500, "numbers": list(range(20))}


@diamond.stage(after="split")
def paying(stage: StageExecution) -> list[str]:
    return [stage.step("buy", lambda n=n: f"ticket {n}") for n in range(2)]


@diamond.stage(after="split")
def stubborn(stage: StageExecution) -> int:
    if not stage.context.get("tried"):
        raise TransientError("once more", context_update={"tried": True}, retry_after=0.001)
    return 1


@diamond.stage(after=["paying", "stubborn"])
def join(stage: StageExecution) -> str:
    print("joined")
    return "joined"


@asking.stage
def draft(stage: StageExecution) -> str:
    return "a draft"


asking.approval("Go on?", name="gate", after="draft")


@asking.stage(after="gate")
def send(stage: StageExecution) -> str:
    return "sent"


#: Each with the number of its stages.
LOAD = ((chain, 4), (diamond, 4), (chain, 4), (asking, 3), (diamond, 4))


@dataclass(slots=True)
class Round:
    """What was seen after a round. Sizes are in bytes, `longest` in seconds."""

    stages: int
    memory: int
    descriptors: int
    threads: int
    file: int
    longest: float


@dataclass(slots=True)
class Soak:
    """What a soak has shown."""

    stages: int = 0
    seconds: float = 0.0
    rounds: list[Round] = field(default_factory=list)

    def drift(self, name: str) -> float:
        """Return by which part a figure has grown, from the first judged quarter of the rounds to the last one."""
        values = [getattr(each, name) for each in self.rounds[int(len(self.rounds) * WARM) :]]
        quarter = max(1, len(values) // 4)
        return statistics.median(values[-quarter:]) / statistics.median(values[:quarter]) - 1

    def summary(self) -> dict[str, float]:
        """Return the figures that are judged."""
        return {
            "stages": self.stages, "seconds": round(self.seconds, 1),
            **{f"{name}_drift": round(self.drift(name), 4) for name in ("memory", "descriptors", "threads", "file")},
            "largest_file": max(each.file for each in self.rounds), "last_file": self.rounds[-1].file,
            "longest": round(max(each.longest for each in self.rounds), 2),
            "memory": self.rounds[-1].memory, "descriptors": self.rounds[-1].descriptors,
        }  # fmt: skip


def soak(folder: Path, stages: int) -> Soak:
    """Run workflows until so many stages have run."""
    found, process, begin = Soak(), psutil.Process(), time.monotonic()
    config = QueueProcessorConfig(task_output="keep")
    with Engine(folder / "runs.db", durability="normal", config=config) as engine:
        while found.stages < stages:
            here, longest = 0, 0.0
            while here < ROUND:
                longest = max(longest, _batch(engine))
                here += TIMES * sum(count for _, count in LOAD)
            found.stages += here
            engine.prune(keep=KEPT)
            gc.collect()
            size = sum(file.stat().st_size for file in folder.glob("runs.db*"))
            found.rounds.append(_seen(found.stages, process, size, longest))
            print(found.rounds[-1], file=sys.stderr, flush=True)
    found.seconds = time.monotonic() - begin
    return found


def _seen(stages: int, process: psutil.Process, size: int, longest: float) -> Round:
    memory, descriptors = process.memory_info().rss, process.num_fds()
    return Round(stages, memory, descriptors, threading.active_count(), size, longest)


def _batch(engine: Engine) -> float:
    """Start many at once and wait for all; return how many seconds that took."""
    begin = time.monotonic()
    runs = [engine.start(flow) for flow, _ in LOAD * TIMES]
    for run in runs:
        if run.name == "asking":
            run.approve("gate")
    for run in runs:
        assert run.wait(60).name == "SUCCEEDED", run.explain()
    return time.monotonic() - begin


@click.command()
@click.option("--stages", default=50_000, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with all rounds.")
def main(stages: int, as_json: bool) -> None:
    """Soak an engine; the exit code is 1 when something has grown by more than 5 % or a run took over 5 s."""
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), stages)
    summary = found.summary()
    print(json.dumps({**summary, "rounds": [asdict(each) for each in found.rounds]} if as_json else summary, indent=1))
    grown = max(summary["memory_drift"], summary["descriptors_drift"], summary["file_drift"])
    sys.exit(grown > 0.05 or summary["longest"] > 5)


if __name__ == "__main__":
    main()
