"""Limits: so many bodies begin in any such time, over all runs and engines of a store."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stabilize_nb import Engine, Flow, TransientError
from stabilize_nb.errors import ConfigError
from stabilize_nb.models.limit import Limit, limit_of, permitted
from stabilize_nb.notebook.views import run_bundle
from tests.makers import stage, workflow

MINUTE = 60_000


class Clock:
    """Stands still until it is set; notes when bodies begin."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = 1_000_000
        self.begun: list[int] = []
        engine.database.clock = lambda: self.now

    def note(self, *_: object) -> None:
        self.begun.append(self.now)

    def wait(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        while True:
            ticket = self.engine.database.changes.ticket()
            if holds():
                return
            assert ticket.wait(8), (self.now, self.begun, permits(self.engine))

    def go_on(self, by: int) -> None:
        self.now += by
        self.engine.database.changes.notify()


@pytest.fixture
def clock(engine: Engine) -> Clock:
    made = Clock(engine)
    engine.registry.register("note", made.note)
    return made


def permits(engine: Engine) -> list[int]:
    """Return the times of all permits, in order."""
    rows = engine.database.call_read(
        lambda connection: [connection.one("permit", {"name": "crm", "number": number}) for number in range(1, 20)]
    )
    return [row[2] for row in rows if row is not None]


def test_so_many_begin_at_once_and_the_next_when_the_first_is_old_enough(engine: Engine, clock: Clock) -> None:
    """Three a minute: three begin, the fourth waits a minute, with its run saying so, and holds no thread."""
    runs = [engine.start(workflow(stage("a", task="note", context={"_limit": "crm: 3/min"}))) for _ in range(5)]
    clock.wait(lambda: len(permits(engine)) == 5 and len(clock.begun) == 3)
    said = [run.explain("a") for run in runs if run.status.name == "RUNNING"]

    assert permits(engine) == [clock.now] * 3 + [clock.now + MINUTE] * 2
    assert said.count("stage 'a' waits for the limit 'crm: 3/min' until 00:17:40 UTC") == 2
    assert ["stage 'a' waits for the limit 'crm: 3/min' until 00:17:40 UTC"] in [run.explain() for run in runs]
    assert len(engine.processor.desk.running) == 0
    clock.go_on(MINUTE - 1)
    clock.go_on(1)
    for run in runs:
        assert run.wait(20).name == "SUCCEEDED"
    assert clock.begun == [1_000_000] * 3 + [1_000_000 + MINUTE] * 2


def test_stages_of_a_step_share_a_limit(engine: Engine, clock: Clock) -> None:
    """Branches that begin in one commit take one permit each; another limit is another one."""
    both = {"_limit": "crm: 1/10s"}
    branches = [stage(name, "plan", task="note", context=both) for name in ("a", "b", "c")]
    other = stage("d", "plan", task="note", context={"_limit": "mail: 1/10s"})
    run = engine.start(workflow(stage("plan"), *branches, other))
    clock.wait(lambda: len(permits(engine)) == 2 and len(clock.begun) == 2)

    assert [at - clock.now for at in permits(engine)] == [10_000, 20_000]
    for _ in range(2):
        clock.go_on(10_000)
        clock.wait(lambda: clock.begun[-1] == clock.now)
    assert run.wait(20).name == "SUCCEEDED"
    assert clock.begun == [1_000_000] * 2 + [1_010_000, 1_020_000]


def test_retries_count_too(engine: Engine, clock: Clock) -> None:
    """Who is refused for being too fast does not come back faster."""
    flow = Flow("asks")

    @flow.stage(limit="crm: 1/h", retry=1)
    def ask() -> int:
        clock.note()
        if len(clock.begun) == 1:
            raise TransientError("too many requests")
        return 1

    run = engine.start(flow)
    clock.wait(lambda: len(clock.begun) == 1 and "tries again" in run.explain("ask"))
    clock.go_on(5_000)
    clock.wait(lambda: len(permits(engine)) == 2)
    assert "waits for the limit 'crm: 1/h'" in run.explain("ask")
    clock.go_on(60 * MINUTE)

    assert run.result(20) == 1
    assert clock.begun == [1_000_000, 1_000_000 + 5_000 + 60 * MINUTE]


def test_old_permits_go(engine: Engine, clock: Clock) -> None:
    """A store keeps twice as many permits as a limit counts."""
    for at in range(7):
        engine.start(workflow(stage("a", task="note", context={"_limit": "crm: 2/s"}))).wait(20)
        clock.go_on(1_000 * (at + 1))

    assert len(permits(engine)) == 4


@given(
    count=st.integers(1, 5), period=st.integers(1, 1_000), gaps=st.lists(st.integers(0, 500), min_size=1, max_size=40)
)
def test_no_stretch_of_time_has_more(count: int, period: int, gaps: list[int]) -> None:
    """Whenever permits are asked for, no stretch as long as the limit's has more than it counts; none waits in vain."""
    limit = Limit(name="crm", count=count, period=period)
    now = 0
    times: list[int] = []
    asked: list[int] = []
    for gap in gaps:
        now += gap
        earlier = times[-count] if len(times) >= count else None
        times.append(permitted(limit, now, earlier, times[-1] if times else None))
        asked.append(now)

    assert all(b >= a for a, b in pairwise(times))
    assert all(times[at] - times[at - count] >= period for at in range(count, len(times)))
    assert all(
        time == at or time == times[k - 1] or (k >= count and time == times[k - count] + period)
        for k, (time, at) in enumerate(zip(times, asked, strict=True))
    )


@pytest.mark.parametrize(
    "text",
    [
        "openai",
        "openai: 60",
        "openai: 0/min",
        ": 60/min",
        "openai: 60/moon",
        "openai: 6/0s",
        60,
        "a: -1/s",
        "a: 99999999/s",
    ],
)
def test_what_is_no_limit_is_refused(engine: Engine, text: object) -> None:
    """Where a stage is written, and where a workflow is stored."""
    flow = Flow("words")
    with pytest.raises(ConfigError, match="such as 'openai: 60/min'"):
        flow.stage(limit=text)(lambda: 1)
    with pytest.raises(ConfigError, match="such as 'openai: 60/min'"):
        engine.start(workflow(stage("a", context={"_limit": text})))


@pytest.mark.parametrize(
    ("text", "period"),
    [("openai: 60/min", MINUTE), ("a b:5 / 10s", 10_000), ("x: 1/hour", 60 * MINUTE), ("x: 9/2days", 48 * 60 * MINUTE)],
)
def test_limits_that_are_read(text: str, period: int) -> None:
    """A time may have a number."""
    assert limit_of(text).period == period


def test_picture_shows_the_limit_and_who_waits_for_it(engine: Engine, clock: Clock) -> None:
    """A stage with a limit says which, and while its body may not begin, that it waits for its turn."""
    flow = Flow("letters")
    flow.stage(lambda: 1, name="send", limit="crm: 1/min")
    first, second = engine.start(flow), engine.start(flow)
    clock.wait(lambda: first.status.is_complete and "limit" in second.explain("send"))

    done, waits = (run_bundle(run)["text/plain"] for run in (first, second))
    clock.go_on(MINUTE)
    second.wait(20)

    assert "limit crm: 1/min" in done
    assert "waits for its turn" not in done
    assert "limit crm: 1/min" in waits
    assert "waits for its turn" in waits
    assert "waits for its turn" not in run_bundle(second)["text/plain"]
