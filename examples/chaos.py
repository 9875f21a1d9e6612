"""
Chaos: a supervisor kills the worker at random moments (SIGKILL) and starts it again, until the run has finished.

Then it compares what the model server and the tools have noted with what the engine has. A call may be made again only
if it was in flight when the process died: begun, and its answer not committed. An answer that has come is committed
within milliseconds, so what had ended long before the kill was not in flight.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from examples.model import log_of
from examples.worker import note_tools, work
from stabilize_nb import Engine, WorkflowStatus

if TYPE_CHECKING:
    from examples.example import Example

#: Seconds a worker lives at most, before it has said anything and afterwards.
EARLY, LATE = 0.3, 1.5
#: Share of the workers that are killed early.
SHARE = 0.1
#: Seconds between an answer and its commit at most.
COMMIT = 0.25


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the server or the tool has seen it; one `key` is one call of the run. Times in s since the epoch."""

    kind: str
    what: str
    key: str
    began: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class Life:
    """When a worker began and was killed; None: it ended by itself."""

    began: float
    killed: float | None


@dataclass(frozen=True, slots=True)
class Repeat:
    """A call that was made again, and the kill between the two; `waited`: s from its answer to the kill, None: none."""

    call: Call
    kill: float | None
    waited: float | None

    @property
    def was_in_flight(self) -> bool:
        """Whether the process died between the beginning of the call and the commit of its answer."""
        return self.kill is not None and (self.waited is None or self.waited < COMMIT)

    def __str__(self) -> str:
        if self.kill is None:
            return f"{self.call.kind} {self.call.what}: no kill between the two"
        came = "no answer yet" if self.waited is None else f"answered {1000 * self.waited:.0f} ms before"
        return f"{self.call.kind} {self.call.what}: killed {self.kill - self.call.began:.2f} s after it began, {came}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a run came to that was killed: what is wrong with it, and which calls were made, kept and repeated."""

    seconds: float
    lives: Sequence[Life]
    faults: list[str]
    calls: Sequence[Call]
    kept: Mapping[str, int]  # kind -> answers that the engine has committed

    @cached_property
    def repeats(self) -> list[Repeat]:
        """The calls that were made again."""
        return repeats_of(self.calls, self.lives)

    @property
    def kills(self) -> int:
        """How often the worker was killed."""
        return sum(life.killed is not None for life in self.lives)

    @property
    def is_right(self) -> bool:
        """Whether the result is right, and nothing was repeated that need not be."""
        return not self.faults and all(repeat.was_in_flight for repeat in self.repeats)

    def told(self) -> str:
        """Return the report."""
        lines = [f"{self.kills} kills in {self.seconds:.1f} s; {'; '.join(self.faults) or 'the result is right'}"]
        for kind, kept in self.kept.items():
            made = sum(call.kind == kind for call in self.calls)
            repeats = [repeat for repeat in self.repeats if repeat.call.kind == kind]
            lost = sum(repeat.was_in_flight for repeat in repeats)
            rest = made - kept - len(repeats)
            lines.append(f"{made} {kind} calls made: {kept} kept, {rest} of stages that were withdrawn, "
                         f"{len(repeats)} repeated, of which {lost} were in flight at a kill")  # fmt: skip
            lines += [f"    {repeat}" for repeat in repeats]
        return "\n    ".join(lines)


def show(example: Example, folder: Path, address: str, *, rounds: int, most: int, seed: int) -> int:
    """Do it `rounds` times with `most` kills each, print what came of it, and return the exit code."""
    forks = multiprocessing.get_context("forkserver")  # workers begin at once: what they import is loaded before
    forks.set_forkserver_preload(["examples.worker", example.flow.partition(":")[0]])
    verdicts = []
    for number in range(1, rounds + 1):
        place = folder / f"chaos-{seed}-{number}-{os.getpid()}"
        place.mkdir()
        lives = Lives(forks, example, place, random.Random(f"{seed} {number}"))  # noqa: S311 - moments, no secrets
        verdicts.append(endure(example, place, address, lives, most))
        print(f"{example.name} {number}: {verdicts[-1].told()}", flush=True)
    right = sum(verdict.is_right for verdict in verdicts)
    repeats = [repeat for verdict in verdicts for repeat in verdict.repeats]
    deaths = sum(verdict.kills for verdict in verdicts)
    print(
        f"\n{right} of {rounds} runs are right after {deaths} kills; {len(repeats)} calls were repeated, "
        f"{sum(repeat.was_in_flight for repeat in repeats)} of them were in flight at a kill"
    )
    return 0 if right == rounds else 1


def endure(example: Example, folder: Path, address: str, lives: Lives, most: int) -> Verdict:
    """Run an example to its end, killed again and again, but `most` times at most."""
    began, before = time.time(), len(log_of(address))
    lived = [lives.live(to_its_end=most == 0)]
    while lived[-1].killed is not None:
        lived.append(lives.live(to_its_end=len(lived) == most))
    calls = [*model_calls(log_of(address)[before:]), *tool_calls(lives.tools)]
    seconds = time.time() - began
    faults = example.faults(folder / "run-1")
    with Engine(folder / "runs.db") as engine:
        runs = [engine.run(run_id) for run_id in engine.runs()["run_id"]]
        faults += [f"{run.name} is {run.status.name}" for run in runs if run.status is not WorkflowStatus.SUCCEEDED]
        answered = pd.concat([run.calls for run in runs]).query("status == 'answered'")
    kept = {kind: int((answered["kind"] == kind).sum()) for kind in ("model", "tool")}
    return Verdict(seconds=seconds, lives=lived, faults=faults, calls=calls, kept=kept)


class Lives:
    """The workers of one run, one after the other; what they say is kept in a file."""

    def __init__(self, forks: Any, example: Example, folder: Path, moments: random.Random) -> None:
        self.tools = folder / "tools.jsonl"
        self._forks = forks
        self._said = folder / "said"
        self._said.touch()
        self._arguments = (example.name, folder, self._said, self.tools)
        self._moments = moments

    def live(self, *, to_its_end: bool) -> Life:
        """Start a worker, and kill it at some moment unless it ends before."""
        worker = self._forks.Process(target=work_aside, args=self._arguments)
        before, began = self._said.stat().st_size, time.time()
        worker.start()
        worker.join(None if to_its_end else self._patience(worker, before))
        if worker.exitcode is None:
            worker.kill()
            killed = time.time()
            worker.join()
            return Life(began, killed)
        return Life(began, None)

    def _patience(self, worker: Any, before: int) -> float:
        """Return how many seconds a worker has left; mostly they count from when it has said that it goes on."""
        if self._moments.random() < SHARE:
            return self._moments.uniform(0, EARLY)
        while worker.exitcode is None and self._said.stat().st_size == before:
            time.sleep(0.01)
        return self._moments.uniform(0, LATE)


def work_aside(name: str, folder: Path, said: Path, tools: Path) -> None:
    """Do the work in a process of its own, which says what it has to say into a file."""
    with said.open("a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    note_tools(tools)
    work(name, folder, yes=True, once=True)


def model_calls(log: Iterable[dict[str, Any]]) -> list[Call]:
    """Return calls of the server's log; a conversation that is asked again is the same call."""
    keys = [json.dumps(line["messages"]) for line in log]
    return [
        Call("model", str(line["messages"][-1]["content"])[:40].replace("\n", " "), key, line["at"], line["ended"])
        for key, line in zip(keys, log, strict=True)
    ]


def tool_calls(path: Path) -> list[Call]:
    """Return the calls that tools have noted."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    ends: defaultdict[str, list[float]] = defaultdict(list)
    for line in lines:
        if "ended" in line:
            ends[line["key"]].append(line["ended"])
    begun = sorted((line for line in lines if "began" in line), key=lambda line: float(line["began"]))
    nexts = {id(line): min((other["began"] for other in begun[at + 1 :] if other["key"] == line["key"]), default=None)
             for at, line in enumerate(begun)}  # fmt: skip
    return [
        Call("tool", line["what"], line["key"], line["began"], _end(ends[line["key"]], line["began"], nexts[id(line)]))
        for line in begun
    ]


def _end(ends: Iterable[float], began: float, again: float | None) -> float | None:
    return next((end for end in ends if began <= end and (again is None or end < again)), None)


def repeats_of(calls: Iterable[Call], lives: Sequence[Life]) -> list[Repeat]:
    """
    Return the calls that were made again, each with the kill of the worker that had made it.

    What a server hears between a kill and the next life comes from the dead worker.
    """
    same: defaultdict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.began):
        same[call.kind, call.key].append(call)
    births = [life.began for life in lives]
    found = []
    for first, again in chain.from_iterable(map(pairwise, same.values())):
        life = bisect_right(births, first.began)
        kill = lives[life - 1].killed if life < bisect_right(births, again.began) else None
        waited = None if kill is None or first.ended is None or first.ended > kill else kill - first.ended
        found.append(Repeat(first, kill, waited))
    return found
