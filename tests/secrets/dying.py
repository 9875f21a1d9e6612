"""A process that dies while it uses a secret, and one that goes on."""

from __future__ import annotations

import os
import signal

from stabilize_nb import Engine, Flow, secret
from stabilize_nb.models.stage import StageExecution

flow = Flow("dying")
ends: list[bool] = []


@flow.stage
def first(key: str) -> dict[str, str]:
    print("using", key)
    return {"key": key}


@flow.stage(after="first")
def second(first: dict[str, str], stage: StageExecution) -> bool:
    stage.step("ask", lambda: f"asked with {first['key']}")
    if not ends:
        os.kill(os.getpid(), signal.SIGKILL)
    return first["key"] == os.environ["KEY"]


def die(path: str) -> None:
    """Begin a run and die in its second stage."""
    with Engine(path) as engine:
        engine.start(flow, key=secret("KEY")).wait(20)


def go_on(path: str) -> None:
    """End that run; say how."""
    ends.append(True)
    with Engine(path) as engine:
        engine.define(flow)
        (run,) = engine.resume()
        print(run.wait(20).name, run.outputs["second"]["result"])
