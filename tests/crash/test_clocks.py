"""Clocks that are set, and time zones: no timer is early, none is lost, and no living processor loses its work (C5)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stabilize_nb import WaitTask
from stabilize_nb.queue.processor import QueueProcessorConfig
from stabilize_nb.store.driver import wall_clock
from tests.crash.clocks import DAY, HOUR, SECOND, TIMER, kinds, ms, records
from tests.makers import Bench, stage, workflow

if TYPE_CHECKING:
    from pathlib import Path

TODAY = ms(2026, 11, 22, 12)
MOMENTS = {
    "today": TODAY,
    "summer time begins": ms(2026, 3, 29, 0, 59, 50),
    "summer time ends": ms(2026, 10, 25, 0, 59, 50),
    "leap day": ms(2028, 2, 28, 23, 59, 50),
    "new year": ms(2026, 12, 31, 23, 59, 50),
    "2038": 2**31 * SECOND - 10 * SECOND,
    "unsigned 2106": 2**32 * SECOND - 10 * SECOND,
    "nanoseconds end in 2262": 2**63 // 10**6 - 10 * SECOND,
    "the year 9000": ms(9000, 1, 1),
    "no battery: 1970": 0,
}
JUMPS = {
    "none": (),
    "1 h on": (HOUR,),
    "1 h back": (-HOUR,),
    "1 d on": (DAY,),
    "1 d back": (-DAY,),
}
SETTINGS = {
    "back in the middle": (TIMER // 2, -TIMER // 3),
    "back just before": (TIMER - 1, -1, 1 - TIMER),
    "on to just before": (TIMER - 1,),
    "on to the very moment": (TIMER,),
    "there and back": (HOUR, -HOUR),
    "back and there": (-DAY, DAY),
    "to and fro": (-HOUR, HOUR, -DAY, 2 * DAY, -DAY),
    "56 years on": (ms(2026, 11, 22) - ms(1970, 1, 1),),
}
CASES = {
    **{f"{moment}, {jump}": (start, moves) for moment, start in MOMENTS.items() for jump, moves in JUMPS.items()},
    **{name: (TODAY, moves) for name, moves in SETTINGS.items()},
}


@pytest.mark.parametrize("kind", list(kinds()))
@pytest.mark.parametrize("case", list(CASES))
def test_a_timer_goes_off_when_the_clock_says_so(case: str, kind: str) -> None:
    """However the clock is set while it waits: not a millisecond early, and once."""
    check(kind, *CASES[case])


def check(name: str, start: int, moves: tuple[int, ...]) -> None:
    kind, record = kinds()[name], records(start, moves)[name]
    assert record.status == kind.ends
    assert len(record.fired) == kind.times
    assert [due for due in record.fired if due[1] - due[0] < TIMER] == []
    assert record.left == []


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-2 * DAY, 2 * DAY) | st.integers(-TIMER, TIMER), max_size=6))
def test_any_settings_of_the_clock(moves: list[int]) -> None:
    """The same for clocks that are set again and again."""
    for kind in kinds():
        check(kind, TODAY, tuple(moves))


@pytest.mark.parametrize("jump", [HOUR, -DAY, 36_500 * DAY], ids=["1 h on", "1 d back", "100 years on"])
def test_a_living_processor_keeps_its_work(tmp_path: Path, jump: int) -> None:
    """A clock that is set over the end of its lease takes nothing from a processor, nor the time from its body."""
    go_on, begun = threading.Event(), []

    def work(_stage: object) -> dict[str, str]:
        begun.append(threading.get_ident())
        go_on.wait(20)
        return {"by": "first"}

    url, lease = f"sqlite:///{tmp_path}/runs.db", QueueProcessorConfig(lease=600, task_timeout=300)
    with Bench(url, tasks={"work": work}, config=lease) as first:
        flow = workflow(stage("a", task="work"))
        first.begin(flow)
        first.processor.start()
        while not begun:
            time.sleep(0.01)
        first.database.clock = lambda: wall_clock() + jump
        other = subprocess.run(
            [sys.executable, "-c", OTHER, url, str(jump)], stdout=subprocess.PIPE, text=True, check=True, timeout=60
        )
        assert other.stdout.split() == ["0"]
        go_on.set()
        while not first.store.retrieve(flow.id).status.is_complete:
            time.sleep(0.01)

        assert len(begun) == 1
        assert first.store.retrieve(flow.id).stages[0].outputs == {"by": "first"}


#: Another processor looks for work that is nobody's, three times, by a clock that was set.
OTHER = """
import sys, time
from tests.makers import Bench

begun = []
bench = Bench(sys.argv[1], tasks={"work": lambda stage: begun.append(1)})
bench.database.clock = lambda: time.time_ns() // 1_000_000 + int(sys.argv[2])
bench.processor.start()
time.sleep(1.5)
bench.close()
print(len(begun))
"""


@pytest.mark.parametrize("wait", [86_400, 10**10], ids=["a day", "three hundred years"])
def test_a_sleeping_machine_wakes_to_what_is_due(wait: int) -> None:
    """Who waits for a time, however far, notices within seconds that the clock was set on to it."""
    shift = 0
    with Bench(tasks={"wait": WaitTask}) as bench:
        bench.database.clock = lambda: wall_clock() + shift
        flow = workflow(stage("a", task="wait", context={"waitTime": wait}))
        bench.begin(flow)
        bench.processor.start()
        while not (bench.sql("SELECT 1 FROM event WHERE type = 'task.polled'") and bench.processor.desk.idle):
            time.sleep(0.01)
        shift = wait * SECOND
        set_at = time.monotonic()
        while not bench.store.retrieve(flow.id).status.is_complete:
            assert time.monotonic() - set_at < 5
            time.sleep(0.01)


#: Runs a wait by a clock that begins where it is told to.
ZONED = """
import json, sys, time
from stabilize_nb import Engine
from tests.makers import stage, workflow

def reading():
    return start + int((time.monotonic() - begun) * 1000)

begun, start = time.monotonic(), int(sys.argv[2])
with Engine(sys.argv[1]) as engine:
    engine.store.database.clock = reading
    run = engine.start(workflow(stage("a", task="wait", context={"waitTime": 0.2})))
    run.wait(timeout=20)
    events = run.events
    print(json.dumps({
        "status": run.status.name,
        "zone": str(events["time"].dt.tz),
        "shown": [at.isoformat() for at in events["time"]],
        "times": [[kind, at.timestamp() * 1000] for kind, at in zip(events["type"], events["time"])],
    }))
"""
ZONES = ["Asia/Tokyo", "America/Los_Angeles"]
CHANGES = {  # 100 ms before a zone changes its time
    "Los Angeles loses an hour": ("America/Los_Angeles", ms(2026, 3, 8, 10) - 100),
    "Los Angeles gains an hour": ("America/Los_Angeles", ms(2026, 11, 1, 9) - 100),
}


@pytest.mark.parametrize(
    ("zone", "start"), [*((zone, TODAY) for zone in ZONES), *CHANGES.values()], ids=[*ZONES, *CHANGES]
)
def test_a_time_zone_changes_nothing(tmp_path: Path, zone: str, start: int) -> None:
    """East and west of UTC, and over a change of its time: messages come at once, delays are exact, times are UTC."""
    command = [sys.executable, "-c", ZONED, f"{tmp_path}/runs.db", f"{start}"]
    done = subprocess.run(
        command, env={**os.environ, "TZ": zone}, stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )

    found = json.loads(done.stdout)
    (polled,) = (at for kind, at in found["times"] if kind == "task.polled")
    began = [at for kind, at in found["times"] if kind == "task.started"]
    assert found["status"] == "SUCCEEDED"
    assert found["zone"] == "UTC"
    assert all(shown.endswith("+00:00") for shown in found["shown"])
    assert 0 <= found["times"][0][1] - start < 5 * SECOND
    assert 200 <= began[1] - polled < 200 + SECOND
