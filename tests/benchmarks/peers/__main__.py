"""
Make the environments of the other engines: `python -m tests.benchmarks.peers FOLDER [NAME ...]`.

The folder is outside of the repository; each environment takes up to 300 MB.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from tests.benchmarks.peers import OTHERS


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("names", nargs=-1, type=click.Choice(list(OTHERS)))
def main(folder: Path, names: tuple[str, ...]) -> None:
    """Make them all, or those that are named."""
    for name in names or OTHERS:
        other = OTHERS[name]
        python = other.python(folder)
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *other.requires], check=True)
        click.echo(f"{name}: {python}")


if __name__ == "__main__":
    main()
