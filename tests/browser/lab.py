"""
JupyterLab for the tests: one server, one page of it, and a tab for each notebook.

Loading the page takes ten times as long as opening a tab, so tests share the page. What must not be shared is not: each
notebook has a folder, a kernel and a store of its own, and its kernel is ended with it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Page, sync_playwright

from tests.browser import lab_browser
from tests.browser.lab_browser import CHROMIUM, CHROMIUM_ARGS, LabBrowser, LabServer, Notebook, open_browser, start_lab
from tests.kernels import NEWEST_NAME, OLDEST_NAME

#: Chromium finds no address of any name; what is on this machine has a number.
NO_NAMES = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
#: Python runs the file of this name when it starts, in the server and in every kernel.
LISTENER = Path(__file__).parent / "listener"
#: Parts of the server that no test needs.
WITHOUT = ("jupyter_lsp", "jupyter_server_terminals")


class Tab(Notebook):
    """A notebook in a tab of a page that is shared."""

    def __init__(self, lab: Lab, path: str) -> None:
        self.browser = lab.browser
        self.server = lab.server
        self.lab = lab
        self.path = path
        self.page = lab.page
        self.page_errors: list[str] = []
        self.console_errors: list[str] = []
        self.page.on("pageerror", self._on_error)
        self.page.on("console", self._on_console)
        if lab.is_loaded:
            self.show()
        else:
            self._goto()

    def _on_error(self, error: Any) -> None:
        self.page_errors.append(str(error))

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.console_errors.append(message.text)

    def show(self) -> None:
        """Open the tab, or bring it to the front."""
        self.command("docmanager:open", {"path": self.path})
        self.wait_js(
            f"path => {{ const ready = {lab_browser._READY};"
            " return window.jupyterapp.shell.currentWidget.context?.path === path && ready(); }",
            what=f"the tab of {self.path} and its kernel to be ready",
            arg=self.path,
        )

    def reload(self, *, save: bool = True) -> None:
        """Load the page anew; only this notebook is open then."""
        super().reload(save=save)

    def close(self) -> None:
        """Close the tab without asking whether to save, and end its kernel."""
        self.page.evaluate(
            """path => { for (const each of [...window.jupyterapp.shell.widgets("main")]) {
                if (each.context?.path === path) { each.context.model.dirty = false; each.dispose(); } } }""",
            self.path,
        )
        self.page.remove_listener("pageerror", self._on_error)
        self.page.remove_listener("console", self._on_console)
        for session in self.server.api("GET", "api/sessions"):
            if session["path"] == self.path:
                self.server.api("DELETE", f"api/sessions/{session['id']}")

    # -- looking further than the driver does -------------------------------------------------------

    def wait(self, look: Callable[[], Any], what: str, *, seconds: float = 30) -> Any:
        """Wait until a look at the page or a file gives something true, and return it."""
        for _ in range(int(seconds * 20)):
            if found := look():
                return found
            self.page.wait_for_timeout(50)
        raise lab_browser.LabError(self._explain(f"waited {seconds} s for {what}"))

    def wait_button(self, text: str, *, cell: int | None = None) -> Any:
        """Wait until a button can be clicked and return its locator."""
        button = self.button(text, cell=cell).first
        self.wait(lambda: button.count() and button.is_enabled(), f"a button {text!r} that can be clicked")
        return button

    def wait_gone(self, text: str, *, cell: int | None = None, seconds: float = 30) -> None:
        """Wait until a text is nowhere to be seen in the outputs, or in the output of one cell."""
        texts = self.output_texts
        self.wait(
            lambda: not any(text in said for said in (texts() if cell is None else texts()[cell : cell + 1])),
            f"the text {text!r} to be gone",
            seconds=seconds,
        )

    def click_until(self, button: str, text: str, *, cell: int) -> float:
        """Click a button and return the seconds until a text stands in the output."""
        began = time.monotonic()
        self.click_button(button, cell=cell)
        self.wait_text(text, cell=cell)
        return time.monotonic() - began

    def say(self, source: str) -> str:
        """Run a cell at the end and return what stands under it."""
        return self.cell_output_text(self.add_cell(source))

    def converted(self) -> str:
        """Return the saved notebook as nbconvert makes HTML of it, for a machine that reaches no other."""
        # The template would load these for formulas and old widgets.
        without = [f"--HTMLExporter.{name}=" for name in ("mathjax_url", "require_js_url", "jquery_url")]
        command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "--log-level=ERROR", "--stdout"]
        path = str(self.server.root / self.path)
        return subprocess.run([*command, *without, path], capture_output=True, text=True, check=True, timeout=60).stdout

    def folder(self) -> Path:
        """Return the folder of the notebook, which is the working directory of its kernel."""
        return (self.server.root / self.path).parent

    def weakest_contrast(self, cell: int) -> tuple[float, str]:
        """Return the lowest contrast of a text in the output of a cell, and the text."""
        ratio, text = self.page.evaluate(_CONTRAST, cell)
        return ratio, text

    def focused(self) -> str:
        """Return how a screen reader names what has the focus: its role or tag, and its text, label or value."""
        return self.page.evaluate(
            """() => { const e = document.activeElement;
                const label = e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText || e.value || '';
                return (e.type || e.getAttribute('role') || e.tagName).toLowerCase() + ' ' + label.trim(); }"""
        )


#: Of all texts in an output but those of buttons and pictures, the one that stands out least from what is painted
#: behind it (contrast as WCAG 2 has it).
_CONTRAST = """cell => {
    const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
    const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(v => v / 255).map(
        v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const behind = element => { const layers = [];
        for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
        return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]); };
    const output = document.querySelectorAll(
        '.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell')[cell].querySelector('.jp-Cell-outputWrapper');
    let weakest = [21, ''];
    const look = (element, text) => {
        if (!text.trim() || element.closest('svg, button')) return;
        if (!element.checkVisibility({visibilityProperty: true})) return;
        const ground = behind(element), ink = over(parse(getComputedStyle(element).color), ground);
        const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < weakest[0]) weakest = [ratio, text.trim()]; };
    const walker = document.createTreeWalker(output, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) look(walker.currentNode.parentElement, walker.currentNode.data);
    return weakest; }"""


class Lab:
    """The server, the browser and the page; `seen` are the hosts that the page asked something of."""

    def __init__(self, server: LabServer, browser: LabBrowser, connections: Path) -> None:
        self.server = server
        self.browser = browser
        self.seen: set[str] = set()
        self.connections = connections
        self.page = self.new_page()

    def new_page(self) -> Page:
        """Return a page that is listened to."""
        page = self.browser.context.new_page()
        page.on("request", lambda request: self.seen.add(_host(request.url)))
        page.on("websocket", lambda socket: self.seen.add(_host(socket.url)))
        return page

    @property
    def is_loaded(self) -> bool:
        """Whether the page shows JupyterLab already."""
        return bool(self.page.evaluate("() => !!window.jupyterapp"))

    def open(self, path: str, cells: Iterable[str], *, kernel: str = NEWEST_NAME) -> Tab:
        """Write a notebook and open it in a tab; a source that begins with #md is text."""
        write_notebook(self.server.root / path, cells, kernel=kernel)
        return Tab(self, path)

    def left_the_machine(self) -> list[str]:
        """Return what the page, the server and the kernels asked for outside of this machine, and forget it."""
        outside = [f"page: {host}" for host in sorted(self.seen - {"", "127.0.0.1"})]
        outside += [f"page: {url}" for url in self.browser.outside_requests]
        outside += self.connections.read_text().splitlines() if self.connections.exists() else []
        self.seen.intersection_update({"", "127.0.0.1"})
        self.browser.outside_requests.clear()
        self.connections.unlink(missing_ok=True)
        return outside


def _host(url: str) -> str:
    """Return the host of a URL; empty for what needs none, such as data: and blob:."""
    return urllib.parse.urlsplit(url).hostname or ""


@contextmanager
def started_server(root: Path, specs: Path | None = None) -> Iterator[tuple[LabServer, Path]]:
    """
    Start JupyterLab in a folder; beside it the file that names the connections of its processes.

    The temporary folder of its processes is not above the notebooks, so that the store of a notebook lies beside it.
    """
    for name in ("notebooks", "temporary", "settings", "data"):
        (root / name).mkdir(parents=True)
    off = {"ServerApp": {"jpserver_extensions": dict.fromkeys(WITHOUT, False)}}
    (root / "settings" / "jupyter_server_config.json").write_text(json.dumps(off))
    connections = root / "connections"
    env = {
        "JUPYTER_CONFIG_PATH": str(root / "settings"),
        "JUPYTER_PATH": "" if specs is None else str(specs),
        "LAB_CONNECTIONS": str(connections),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(LISTENER), os.environ.get("PYTHONPATH")])),
        "TMPDIR": str(root / "temporary"),
        "XDG_DATA_HOME": str(root / "data"),
    }
    with start_lab(root / "notebooks", env=env) as server:
        yield server, connections


@contextmanager
def started_lab(root: Path, specs: Path | None = None, *, width: int = 1280, height: int = 1000) -> Iterator[Lab]:
    """Start JupyterLab and Chromium; `specs` has the kernel spec of an older kernel."""
    with started_server(root, specs) as (server, connections), sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*CHROMIUM_ARGS, NO_NAMES])
        with open_browser(server, _chromium=chromium, width=width, height=height) as browser:
            yield Lab(server, browser, connections)
        with suppress(Exception):
            chromium.close()


def write_notebook(path: Path, cells: Iterable[str], *, kernel: str = NEWEST_NAME) -> Path:
    """Write a notebook for a kernel."""
    lab_browser.write_notebook(path, cells)
    if kernel != NEWEST_NAME:
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata["kernelspec"] = {"name": kernel, "display_name": kernel, "language": "python"}
        nbformat.write(notebook, path)
    return path


def name_of(text: str) -> str:
    """Return a name for a file."""
    return re.sub(r"\W+", "_", text).strip("_")


__all__ = ["NEWEST_NAME", "OLDEST_NAME", "Lab", "Tab", "name_of", "started_lab", "write_notebook"]
