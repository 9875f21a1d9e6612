"""
Runs programs, such as the code of a page: `with Player(folder) as player: player.play("page.md", code)`.

Each is run in a fork of one process that has imported what is heavy, so it costs what its own code costs: beside that a
fresh interpreter takes a second and more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self

ROOT = Path(__file__).parents[1]
STREAMS = ("stdout", "stderr")

#: What pages import, and most of what that imports.
HEAVY = ("pandas", "pydantic", "networkx", "httpx2", "jsonschema", "stabilize_nb.flow", "stabilize_nb.logs")
HEAVY += ("stabilize_nb.llm", "stabilize_nb.tasks.http", "stabilize_nb.testing", "stabilize_nb.notebook.views")


@dataclass(frozen=True)
class Played:
    """What came of a program."""

    code: int
    out: str
    err: str


class Player:
    """A process of which programs are forks; each has a folder of its own below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.pages", folder],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def play(self, name: str, code: str) -> Played:
        """Run a program in a new folder of this name."""
        self._process.stdin.write(json.dumps([name, code]) + "\n")
        self._process.stdin.flush()
        exit_code = int(self._process.stdout.readline())
        out, err = ((self._folder / f"{name}.{stream}").read_text(encoding="utf-8") for stream in STREAMS)
        return Played(exit_code, out, err)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.stdin.close()


def main() -> None:
    """Run each program that is asked for, in a process of its own, and say its exit code."""
    folder = Path(sys.argv[1]).resolve()
    for name in HEAVY:
        __import__(name)
    for line in sys.stdin:
        name, code = json.loads(line)
        (folder / name).mkdir()
        child = os.fork()
        if child == 0:
            return play(code, name, folder / name)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return None


def play(code: str, name: str, place: Path) -> None:
    """Be the program: its module, its folder, its streams."""
    os.chdir(place)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for target, stream in enumerate(STREAMS, 1):
        os.dup2(os.open(f"{place}.{stream}", os.O_CREAT | os.O_WRONLY), target)
        getattr(sys, stream).reconfigure(line_buffering=True)
    module = sys.modules["__main__"] = ModuleType("__main__")
    try:
        exec(compile(code, f"<{name}>", "exec"), vars(module))  # as `python -c` does
    except Exception:
        traceback.print_exc()
        sys.exit(1)


if __name__ == "__main__":
    main()
