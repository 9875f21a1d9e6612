"""Starting for a key: once, whoever does it and however often."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stabilize_nb import Engine, Flow
from stabilize_nb.errors import ConfigError, KeyTakenError

ROOT = Path(__file__).parents[2]
STARTS = """
import sys
from stabilize_nb import Engine, Flow

flow = Flow("orders")

@flow.stage
def charge(amount):
    return amount

with Engine(sys.argv[1]) as engine:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(12):
        print(engine.start(flow, key=f"order-{number}", amount=number).id, flush=True)
"""


def made(name: str = "orders") -> Flow:
    """Make a flow of one stage, which fails for a negative amount."""
    flow = Flow(name)

    @flow.stage
    def charge(amount: int) -> int:
        if amount < 0:
            raise ValueError("an amount is positive")
        return amount

    return flow


def test_same_key_gives_the_same_run(engine: Engine) -> None:
    """Also once the run has ended, and while the text of a key is a number."""
    flow = made()
    first = engine.start(flow, key="order-42", amount=3)
    first.wait(10)

    assert engine.start(flow, key="order-42", amount=3).id == first.id
    assert engine.start(flow, key="43", amount=3).id != first.id
    assert engine.start(flow, key=43, amount=3).id == engine.start(flow, key="43", amount=3).id
    assert len(engine.runs()) == 2


def test_failed_run_keeps_its_key(engine: Engine) -> None:
    """What a key stands for is not done twice because it went wrong; deleting the run gives the key back."""
    flow = made()
    first = engine.start(flow, key="order-42", amount=-1)
    first.wait(10)

    assert engine.start(flow, key="order-42", amount=-1).id == first.id
    engine.store.delete(first.id)
    assert engine.start(flow, key="order-42", amount=-1).id != first.id


def test_key_of_something_else_is_refused(engine: Engine) -> None:
    """The sentence names what the key stands for and what was to be started; nothing is."""
    first = engine.start(made(), key="order-42", amount=3)

    with pytest.raises(KeyTakenError) as inputs:
        engine.start(made(), key="order-42", amount=4)
    with pytest.raises(KeyTakenError) as flow:
        engine.start(made("refunds"), key="order-42", amount=3)

    assert str(inputs.value) == (
        f"key 'order-42' is that of run {first.id}, which is 'orders' with amount=3; 'orders' with amount=4 cannot be "
        "started for it: give that a key of its own"
    )
    assert "'orders' with amount=3; 'refunds' with amount=3 cannot" in str(flow.value)
    assert len(engine.runs()) == 1


@pytest.mark.parametrize("key", ["x" * 201, True, 1.5, ["order"]], ids=["long", "truth", "float", "list"])
def test_what_is_no_key_is_refused(engine: Engine, key: object) -> None:
    """A key is short text, or a whole number."""
    with pytest.raises(ConfigError, match="text of at most 200 characters is expected"):
        engine.start(made(), key=key, amount=3)  # type: ignore[arg-type]


def test_flow_run_starts_for_a_key_too(engine: Engine) -> None:
    """A flow that is run by itself knows the same keys."""
    flow = made()
    flow.engine = engine
    first = engine.start(flow, key="order-42", amount=3)

    assert flow.run(key="order-42", amount=3).id == first.id
    with pytest.raises(KeyTakenError):
        flow.run(key="order-42", amount=4)


def test_fork_has_no_key(engine: Engine) -> None:
    """A fork is another run; the key stays with its parent."""
    flow = made()
    first = engine.start(flow, key="order-42", amount=3)
    first.wait(10)
    first.fork("charge", inputs={"amount": 5}).wait(10)

    assert engine.start(flow, key="order-42", amount=3).id == first.id


def test_processes_that_race_start_one_run(url: str, engine: Engine) -> None:
    """Two processes start the same twelve orders at the same time: there are twelve runs, and both know them."""
    command = [sys.executable, "-c", STARTS, url]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=60)[0].split() for racer in racers]

    assert said[0] == said[1]
    assert len(set(said[0])) == 12
    assert len(engine.runs()) == 12
