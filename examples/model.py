"""A scripted model as a process of its own: it outlives the workers that ask it, and has a log of what it was asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen


@contextmanager
def scripted_model(rules: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Start it, and yield its address."""
    script = folder / "script.json"
    script.write_text(json.dumps({"rules": rules}, indent=1), encoding="utf-8")
    command = [sys.executable, "-m", "stabilize_nb.testing.model", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - tells mypy
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def log_of(address: str) -> list[dict[str, Any]]:
    """Return what a scripted model was asked, and what became of it."""
    with urlopen(f"{address}/log") as answer:  # noqa: S310 - an address of this machine
        return list(json.load(answer))
