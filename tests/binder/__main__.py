"""
`python -m tests.binder`: make Binder's environment from binder/ as Binder does, and run the notebooks in it.

A clone of the repository, an empty environment, `binder/requirements.txt` installed from the root of the clone,
`binder/postBuild` called. Then JupyterLab has to open the first notebook by itself, and every notebook has to run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0


def main() -> None:
    """Build, open, run; the exit code is 1 when something does not work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", help="which to run, such as 00_first_workflow; else all")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="binder-") as scratch:
        clone, prefix = Path(scratch) / "clone", Path(scratch) / "environment"
        _run(["git", "clone", "-q", str(ROOT), str(clone)])
        environment = build(clone, prefix)
        print(f"JupyterLab opens {opened(clone, environment)}", flush=True)
        chosen = sorted(clone.glob("notebooks/*.ipynb"))
        for notebook in [each for each in chosen if not asked.notebooks or each.stem in asked.notebooks]:
            started = time.monotonic()
            _run(["jupyter", "nbconvert", "--log-level=ERROR", "--to=notebook", "--execute", "--stdout", str(notebook)],
                 clone, environment, quiet=True)  # fmt: skip
            print(f"{notebook.name} ran in {time.monotonic() - started:.0f} s", flush=True)


def build(clone: Path, prefix: Path) -> dict[str, str]:
    """Make the environment as repo2docker does, and return the variables of a process in it."""
    _run([sys.executable, "-m", "venv", str(prefix)])
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JUPYTER", "STABILIZE"))
    }
    environment = {
        **kept, "PATH": f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}", "NB_PYTHON_PREFIX": str(prefix),
        "JUPYTER_CONFIG_DIR": str(prefix / "home"), "JUPYTER_DATA_DIR": str(prefix / "home" / "data"),
    }  # fmt: skip
    install = ["python", "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check"]
    _run([*install, "-r", "binder/requirements.txt"], clone, environment)
    _run(["binder/postBuild"], clone, environment)
    return environment


def opened(clone: Path, environment: Mapping[str, str]) -> str:
    """Return what JupyterLab shows to whoever asks for its root; the file has to be there."""
    with started_lab(clone, environment) as address, urllib.request.urlopen(address) as answer:
        shown = str(answer.url).partition("?")[0]
        settings = answer.read().decode()
    path = shown.partition("/lab/tree/")[2]
    if not path or not (clone / path).is_file():
        sys.exit(f"JupyterLab opens {shown}, and not a notebook of this repository")
    if "jupyter-config-data" not in settings:
        sys.exit(f"{shown} is no page of JupyterLab")
    return path


@contextmanager
def started_lab(clone: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Start JupyterLab without a browser, and yield its address."""
    command = [
        "jupyter",
        "lab",
        "--no-browser",
        "--ip=127.0.0.1",
        "--port=0",
        "--IdentityProvider.token=",
        "--allow-root",
    ]
    server = subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield _address(server, environment)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE)


def _address(server: subprocess.Popen[bytes], environment: Mapping[str, str]) -> str:
    """Return the address of a server that has just been started, once it answers."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        listed = subprocess.run(
            ["jupyter", "server", "list", "--jsonlist"], env=environment, capture_output=True, text=True, check=False
        )
        found = [each["url"] for each in json.loads(listed.stdout or "[]") if each["pid"] == server.pid]
        if found:
            return str(found[0])
        time.sleep(0.5)
    sys.exit(f"JupyterLab did not start within {PATIENCE:.0f} s")


def _run(
    command: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] | None = None, *,
    quiet: bool = False,
) -> None:  # fmt: skip
    print("$", " ".join(command), flush=True)
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL if quiet else None, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} gave {done.returncode}")


if __name__ == "__main__":
    main()
