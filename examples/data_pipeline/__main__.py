"""`python -m examples.data_pipeline`: what female and male penguins weigh, from raw notes to a report."""

from __future__ import annotations

import sys
from pathlib import Path

from examples.data_pipeline.pipeline import flow
from stabilize_nb import Engine
from stabilize_nb.events import EventType, get_event_bus


def main(folder: Path = Path(".stabilize", "data_pipeline")) -> None:
    """Run the pipeline: progress goes to the standard error as it comes, the report to the standard output."""
    folder.mkdir(parents=True, exist_ok=True)
    bus = get_event_bus()
    bus.subscribe("progress", lambda event: show(event.data["fraction"], event.data["message"]), {EventType.CUSTOM})
    try:
        with Engine(folder / "runs.db") as engine:
            result = engine.start(flow, folder=str(folder.resolve())).result(timeout=120)
    finally:
        bus.flush()
        bus.unsubscribe("progress")
    print(Path(result["path"]).read_text(encoding="utf-8"), end="")


def show(fraction: float, message: str) -> None:
    print(f"{fraction:4.0%} {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
