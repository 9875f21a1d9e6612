"""The examples, as their commands run them: killed at random moments, they come to the right end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.agent_team.__main__ import EXAMPLE as TEAM
from examples.chaos import Call, Life, Repeat, repeats_of
from examples.research_analyst.__main__ import EXAMPLE as ANALYST

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("example", [ANALYST, TEAM], ids=lambda example: example.name)
def test_killed_example_comes_to_the_right_end(example, tmp_path):
    """Whenever the worker dies: the result is right, and only what was in flight at a kill is done again."""
    command = [sys.executable, "-m", f"examples.{example.name}", "--offline", "--folder", str(tmp_path)]

    done = subprocess.run(
        [*command, "--chaos", "3", "--kills", "2"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "3 of 3 runs are right" in done.stdout
    assert done.stdout.count("the result is right") == 3


@pytest.mark.timeout(300)
def test_cluster_loses_a_worker():
    """64 stages on two Dask workers, one of which is killed in the middle: the result is right, the loss is logged."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.dask_cluster", "--width", "1500"], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "killed the worker" in done.stdout
    assert "64 stages on 2 workers: 9252 primes below 96000, which is right" in done.stdout
    assert "ProcessLostError: the process of ClientExecutor that ran it died" in done.stdout


def test_report_tells_calls_that_were_in_flight():
    """A call is repeated rightly when its process died before the answer was kept, and else not."""
    lives = [Life(0.5, 2.0), Life(2.2, None)]
    lost = [Call("model", "a", "a", 1.0, None), Call("model", "a", "a", 3.0, 3.1)]
    late = [Call("model", "d", "d", 2.1, 2.1), Call("model", "d", "d", 3.0, 3.1)]
    kept = [Call("tool", "b", "b", 1.0, 1.1), Call("tool", "b", "b", 3.0, 3.1)]
    never = [Call("tool", "c", "c", 2.5, 2.6), Call("tool", "c", "c", 2.7, 2.8)]

    found = repeats_of([*lost, *late, *kept, *never], lives)

    assert found == [
        Repeat(lost[0], 2.0, None),
        Repeat(kept[0], 2.0, pytest.approx(0.9)),
        Repeat(late[0], 2.0, None),
        Repeat(never[0], None, None),
    ]
    assert [repeat.was_in_flight for repeat in found] == [True, False, True, False]
