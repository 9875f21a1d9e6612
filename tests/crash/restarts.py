"""
A program that comes to its end while a body runs, again and again, as a kernel does that is restarted.

    python -m tests.crash.restarts FILE retry|ask [end]

Works on the run in FILE until the body is at work, or to its end with `end`; prints what there is then as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from contextlib import suppress

from stabilize_nb import Engine, Flow
from stabilize_nb.errors import StabilizeError
from stabilize_nb.queue.processor import processor


def main(file: str, word: str, *, to_the_end: bool) -> None:
    """Start the run or go on with it."""
    at_work = threading.Event()
    flow = Flow("long")

    @flow.stage(on_crash=word)
    def train():
        at_work.set()
        if "end" not in sys.argv:  # not a variable of main: with another value in it this would be other code
            threading.Event().wait()
        return "trained"

    engine = Engine(f"sqlite:///{file}")
    run = engine.start(flow, key="only")
    if to_the_end:
        with suppress(StabilizeError):  # it may wait for a person
            run.result(20)
    else:
        at_work.wait(20)
    letters = engine.dead_letters()
    print(json.dumps({"status": run.status.name, "letters": len(letters), "said": run.explain("train")}))


if __name__ == "__main__":
    processor.EXIT_BUDGET = 0.05
    main(sys.argv[1], sys.argv[2], to_the_end="end" in sys.argv[3:])
