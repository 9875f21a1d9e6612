"""The command of an example: with a model that answers from a script or a real one, killed again and again or not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from examples import chaos
from examples.model import scripted_model
from examples.worker import work


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An example: `flow` is where it is defined ("module:name"), `rules` what the scripted model says.

    `inputs`: a new folder -> what a run is started with. `faults`: the same folder -> what is wrong with what a
    finished run has left there, nothing when all is as it should be.
    """

    name: str
    flow: str
    rules: Mapping[str, Any]
    inputs: Callable[[Path], dict[str, Any]]
    faults: Callable[[Path], list[str]]


def command(example: Example) -> click.Command:
    """Return the command line of an example."""

    @click.command(help=f"Run the example {example.name}. Kill it at any moment and give the same command again.")
    @click.option("--yes", is_flag=True, help="Approve without asking.")
    @click.option("--chaos", "rounds", type=int, is_flag=False, flag_value=1, help="Run it N times, killed at random.")
    @click.option("--kills", default=12, help="How often --chaos kills a run at most.")
    @click.option("--seed", default=0, help="Of the random moments of --chaos.")
    @click.option("--model", help="A real model; OPENAI_API_KEY and OPENAI_BASE_URL say where and who.")
    @click.option("--offline", is_flag=True, help="The scripted model, also when OPENAI_API_KEY is set.")
    @click.option("--folder", type=click.Path(path_type=Path), default=Path(".stabilize", example.name),
                  show_default=True, help="Where the run and what it makes are kept.")  # fmt: skip
    def main(
        *, yes: bool, rounds: int | None, kills: int, seed: int, model: str | None, offline: bool, folder: Path
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        place = folder.resolve()
        real = None if offline else model or ("gpt-4o-mini" if os.environ.get("OPENAI_API_KEY") else None)
        if real is not None and rounds is None:
            os.environ["MODEL"] = real
            sys.exit(work(example.name, place, yes=yes))
        with scripted_model(example.rules, place) as address:
            os.environ |= {"MODEL": "scripted", "OPENAI_BASE_URL": address, "OPENAI_API_KEY": "none-is-needed"}
            if rounds is None:
                sys.exit(work(example.name, place, yes=yes))
            sys.exit(chaos.show(example, place, address, rounds=rounds, most=kills, seed=seed))

    return main
