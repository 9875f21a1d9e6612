"""`python -m examples.dynamic_routing`: three tickets, and the way that each of them takes."""

from __future__ import annotations

import json
from pathlib import Path

from examples.dynamic_routing.desk import register, workflow
from stabilize_nb import Engine, Run, WorkflowStatus

ROUTES = Path(__file__).with_name("routes.json")
TICKETS = [
    "I paid 120 euros, and there is an error. ada@north.example ben@north.example",
    "What is the price? cyd@west.example",
    "Hello?",
]


def main() -> None:
    """Work at the tickets side by side, and tell what became of each."""
    routes = json.loads(ROUTES.read_text(encoding="utf-8"))
    with Engine(":memory:") as engine:
        register(engine.registry)
        runs = [engine.start(workflow(ticket, routes)) for ticket in TICKETS]
        for ticket, run in zip(TICKETS, runs, strict=True):
            run.wait(timeout=30)
            done = run.outputs["letter_mi_join"]
            print(ticket, f"  way: {way(run)}", f"  letter: {done['letter']}", sep="\n")
            print(f"  readers: {', '.join(done['readers']) or 'none'}")


def way(run: Run) -> str:
    """Return the stages that a run went through, and how often; the single letters are left out."""
    times = run.stages.groupby("ref_id")["run"].max()
    done = [stage for stage in run.workflow.stages if stage.status is WorkflowStatus.SUCCEEDED]
    taken = [stage.ref_id for stage in done if stage.type != "send"]
    return ", ".join(f"{name} ×{times[name]}" if times[name] > 1 else name for name in taken)


if __name__ == "__main__":
    main()
