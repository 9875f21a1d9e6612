"""
`python -m tests.release`: build what is released, and use it as somebody who has nothing else.

The sdist is made of the repository and the wheel of the sdist. The wheel is installed into an empty environment of each
Python that is supported, where `smoke.py` runs in an empty folder, and mypy and pyright check `typed_sample.py`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
VERSIONS = ("3.11", "3.12", "3.13")
#: What the checkers of types are installed from; pyright brings its own node.
CHECKERS = ("mypy>=2,<3", "pyright[nodejs]", "pandas-stubs", "types-networkx")


def main() -> None:
    """Build, install, use; the exit code is 1 when something does not work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", metavar="PATH", help="an interpreter to try; else all supported")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where sdist and wheel are kept")
    parser.add_argument("--no-types", action="store_true", help="leave mypy and pyright out")
    asked = parser.parse_args()
    pythons = asked.python or list(_interpreters())
    with tempfile.TemporaryDirectory(prefix="release-") as scratch:
        folder = Path(scratch)
        wheel = build(asked.out or folder / "dist")
        for number, python in enumerate(pythons):
            print(f"== {python}", flush=True)
            environment = install(python, wheel, folder / f"environment-{number}")
            smoke(environment, folder / f"empty-{number}")
        if not asked.no_types:
            print("== types", flush=True)
            check_types(environment, folder / "sample")
    print(f"{wheel.name} works on {len(pythons)} interpreters")


def build(out: Path) -> Path:
    """Make sdist and wheel, the wheel of the sdist, and return the wheel."""
    _run([sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)])
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    print(f"built {sdist.name} ({sdist.stat().st_size:,} bytes) and {wheel.name} ({wheel.stat().st_size:,} bytes)")
    return wheel


def install(python: str, wheel: Path, environment: Path) -> Path:
    """Make an empty environment with the wheel and what it needs, and return its interpreter."""
    _run([python, "-m", "venv", str(environment)])
    made = environment / "bin" / "python"
    _run([str(made), "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check", str(wheel)])
    return made


def smoke(python: Path, folder: Path) -> None:
    """Use the package and its command in an empty folder."""
    folder.mkdir()
    shutil.copy(HERE / "smoke.py", folder)
    _run([str(python), "-W", "error", "smoke.py"], folder, silent=True)
    command = python.with_name("stabilize-nb")
    for arguments in (["--version"], ["runs"], ["mg-status", "--db-url", "smoke.db"], ["doctor", "smoke.db"]):
        _run([str(command), *arguments], folder, quiet=arguments != ["--version"])


def check_types(python: Path, folder: Path) -> None:
    """Have both checkers read a program that uses the installed package."""
    folder.mkdir()
    shutil.copy(HERE / "typed_sample.py", folder)
    _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *CHECKERS])
    _run([str(python), "-m", "mypy", "--strict", "typed_sample.py"], folder)
    _run([str(python), "-m", "pyright", "--pythonpath", str(python), "typed_sample.py"], folder)


def _interpreters() -> Iterator[str]:
    """Find an interpreter of each version, on the PATH or where pyenv keeps them."""
    for version in VERSIONS:
        kept = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
        found = str(kept[-1]) if kept else shutil.which(f"python{version}")
        if found is None:
            sys.exit(f"there is no Python {version} here; install it, or name interpreters with --python")
        yield found


def _run(command: Sequence[str], folder: Path | None = None, *, quiet: bool = False, silent: bool = False) -> None:
    """Run a command that has to succeed; `quiet`: without its output, `silent`: it must write no error either."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.PIPE if silent else None, check=False, text=True,
    )  # fmt: skip
    if silent and done.stderr:
        sys.exit(f"{' '.join(command)} wrote:\n{done.stderr}")
    if done.returncode:
        sys.exit(f"{' '.join(command)} gave {done.returncode}{': ' + done.stdout if quiet else ''}")


if __name__ == "__main__":
    main()
