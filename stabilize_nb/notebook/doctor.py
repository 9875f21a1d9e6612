"""What works in this kernel and with this front end."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import IPython

from stabilize_nb import checkup
from stabilize_nb.deterministic import is_deterministic
from stabilize_nb.engine import default_url, store_path
from stabilize_nb.errors import ConfigError
from stabilize_nb.notebook.config import display_mode, settings
from stabilize_nb.notebook.draw import DrawingError, to_svg
from stabilize_nb.notebook.frontend import AUTO_APPROVE, approves_by_itself, clicks_while_awaiting, is_attended
from stabilize_nb.notebook.runtime import RUNTIME
from stabilize_nb.notebook.tables import Table


def examine() -> Table:
    """Return what was found: columns check, found, advice (empty where all is well)."""
    here = (_front_end(), _attended(), _clicks(), _store(), _state(), _drawing(), _dot(), _postgres(), _mode())
    return Table(("check", "found", "advice"), [*_versions(), *here])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _versions() -> Iterator[tuple[str, str, str]]:
    yield "Python", platform.python_version(), ""
    for package in ("stabilize-nb", "ipython", "ipykernel", "ipywidgets", "pandas", "networkx", "graphviz-pure"):
        found = _version(package)
        yield package, found, f"pip install {package}" if found == "missing" else ""


def _front_end() -> tuple[str, str, str]:
    shell = IPython.get_ipython()
    name = type(shell).__name__ if shell is not None else "no IPython"
    return "front end", name, ""


def _clicks() -> tuple[str, str, str]:
    if clicks_while_awaiting():
        return "clicks during await", "handled at once", ""
    return (
        "clicks during await",
        "handled after the cell",
        'pip install "ipykernel>=7.4", or decide by %workflow approve',
    )


def _url() -> str:
    engines = RUNTIME.engines()
    return engines[0].url if engines else default_url()


def _store() -> tuple[str, str, str]:
    url = _url()
    path = store_path(url)
    if path is None:
        return "store", url, "" if is_deterministic() else "in memory: nothing survives a restart of the kernel"
    folder = next(parent for parent in path.parents if parent.exists())
    writable = os.access(path if path.exists() else folder, os.W_OK)
    return "store", shown_path(path), "" if writable else "cannot be written: %workflow store FILE"


def _state() -> tuple[str, str, str]:
    path = store_path(_url())
    if path is None or not path.exists():
        return "state of the store", "nothing is in it yet", ""
    found = checkup.examine(str(path.absolute()))
    if found.is_healthy:
        return "state of the store", f"healthy: {found.ended} runs ended, {found.unfinished} not", ""
    return "state of the store", found.findings[0].what, f"stabilize-nb doctor {shown_path(path)}"


def _drawing() -> tuple[str, str, str]:
    try:
        to_svg("digraph { a -> b }")
    except (DrawingError, ConfigError) as error:
        return "drawing", "text only", str(error)
    return "drawing", "SVG", ""


def _dot() -> tuple[str, str, str]:
    return "Graphviz (optional)", shutil.which("dot") or "not on the PATH", ""


def _postgres() -> tuple[str, str, str]:
    return "psycopg (optional)", _version("psycopg") if find_spec("psycopg") else "missing", ""


def _mode() -> tuple[str, str, str]:
    chosen, mode = settings().display, display_mode()
    return "display", mode if chosen == mode else f"{mode} (chosen: {chosen})", ""


def _attended() -> tuple[str, str, str]:
    if is_attended():
        return "somebody to decide", "yes", ""
    return "somebody to decide", "no", "" if approves_by_itself() else f"decide before a gate, or set {AUTO_APPROVE}=1"


def shown_path(path: Path) -> str:
    """Return a path as short as it can be said: from the working directory when it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
