"""
What runs in the process of a PythonTask: its text is given to the interpreter by `-c`, so it imports only what any has.

The order comes by standard input, as JSON, and is read whole before user code begins, which then finds no input. The
result goes back by a pipe of its own, whose number is the last argument, so nothing that is printed is mistaken for it.
"""

from __future__ import annotations

import importlib
import json
import linecache
import os
import sys
import traceback
from typing import Any


def carry_out(order: dict[str, Any]) -> Any:
    """Run the code of an order and return its result."""
    sys.argv = [order["name"], *order["args"]] if order["is_script"] else [order["name"]]
    if order["is_script"]:
        return run_script(order)
    return getattr(importlib.import_module(order["module"]), order["function"])(*order["args"], **order["inputs"])


def run_script(order: dict[str, Any]) -> Any:
    """Run a script; its RESULT counts also when it ends by sys.exit(0)."""
    text = order["text"]
    linecache.cache[order["name"]] = (len(text), None, text.splitlines(True), order["name"])
    names = {"__name__": "__main__", "__file__": order["name"], "INPUT": order["inputs"]}
    try:
        exec(compile(text, order["name"], "exec"), names)  # noqa: S102 - the script is the user's code, in a process of its own
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    return names.get("RESULT")


def send(channel: int, result: Any) -> None:
    """Send a result; raises what says that it is no JSON."""
    data = json.dumps(result).encode()
    with os.fdopen(channel, "wb") as pipe:
        pipe.write(data)


def main() -> None:
    """Carry out the order, and print what went wrong with the user's frames only."""
    channel = int(sys.argv[-1])
    os.set_inheritable(channel, False)
    order = json.loads(sys.stdin.buffer.read().decode())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path[:0] = order["path"]
    try:
        result = carry_out(order)
    except Exception as error:  # noqa: BLE001 - whatever the code raises
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals is globals():
            trace = trace.tb_next
        traceback.print_exception(type(error), error, trace)
        sys.exit(1)
    try:
        send(channel, result)
    except (TypeError, ValueError) as error:
        sys.exit("RESULT cannot be passed on, because it is no JSON: " + str(error))


if __name__ == "__main__":
    main()
