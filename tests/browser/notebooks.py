"""
The tutorials of notebooks/ in a real JupyterLab: every cell is run, and what it shows is looked at.

    python -m tests.browser.notebooks --shots DIR             all of them, with pictures in the light and the dark theme
    python -m tests.browser.notebooks 06_approvals --live     one, without deterministic mode: with live panes

The exit code is 1 when a cell, the page or a widget has an error, or a picture is not drawn.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat

from tests.browser.lab import Lab, Tab, started_lab

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
#: What notebooks find one folder above theirs.
BESIDE = ("docs", "tests")
DETERMINISTIC = '%config StabilizeNB.display = "deterministic"'
PATIENCE = 180.0

#: Height of a picture, in pixels.
PART = 1400

_TOP = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    panel.content.activeCellIndex = 0;
    for (const each of panel.node.querySelectorAll('.jp-WindowedPanel-outer, .jp-Notebook')) each.scrollTop = 0; }"""
#: How high the window has to be for all of a notebook, in pixels.
_HEIGHT = """() => {
    const cells = window.jupyterapp.shell.currentWidget.content.widgets.map(each => each.node.getBoundingClientRect());
    return Math.ceil(cells.at(-1).bottom - cells[0].top) + 200; }"""
#: Of each output of a cell that is a picture or a widget: its kind, and whether it can be seen.
_DRAWN = """cell => {
    const panel = window.jupyterapp.shell.currentWidget;
    const outputs = panel.content.model.sharedModel.cells[cell].toJSON().outputs || [];
    const area = panel.content.widgets[cell].node.querySelector('.jp-Cell-outputArea');
    const nodes = area ? [...area.querySelectorAll(':scope > .jp-OutputArea-child > .jp-OutputArea-output')] : [];
    const seen = node => { const box = node.getBoundingClientRect(); return box.width > 20 && box.height > 10
        && (node.tagName !== 'IMG' || node.complete && node.naturalWidth > 0); };
    const kinds = {'application/vnd.jupyter.widget-view+json': '.jupyter-widgets', 'image/svg+xml': 'svg, img',
        'image/png': 'img'};
    return outputs.flatMap((output, at) => {
        const kind = Object.keys(kinds).find(each => each in (output.data || {}));
        return kind ? [[kind, [...(nodes[at]?.querySelectorAll(kinds[kind]) || [])].some(seen)]] : []; }); }"""


def main() -> None:
    """Run what was chosen, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which, such as 00_first_workflow; else all")
    parser.add_argument("--shots", type=Path, help="a folder for pictures")
    parser.add_argument("--live", action="store_true", help="without deterministic mode")
    asked = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch, started_lab(Path(scratch) / "root", width=1100) as lab:
        Path(scratch).chmod(0o711)  # a PostgreSQL that a notebook starts may be another user's process
        for path in sorted(NOTEBOOKS.glob("*.ipynb")):
            if not asked.names or path.stem in asked.names:
                wrong += len(_tried(lab, path, asked.shots, live=asked.live))
    sys.exit(1 if wrong else 0)


def _tried(lab: Lab, path: Path, shots: Path | None, *, live: bool) -> list[str]:
    began = time.monotonic()
    tab = opened(lab, path, live=live)
    tab.run_all(timeout=PATIENCE)
    found = faults(tab)
    seconds, drawn = time.monotonic() - began, sum(map(len, pictures(tab)))
    print(f"{path.name}: {seconds:.0f} s, {drawn} pictures and widgets, {len(found)} errors", *found, sep="\n")
    for theme in ("light", "dark") if shots else ():
        tab.set_theme(theme)
        photograph(tab, shots / f"{path.stem}-{'live-' if live else ''}{theme}")
    tab.close()
    return found


def opened(lab: Lab, path: Path, *, live: bool = False) -> Tab:
    """Open a copy of a notebook without its outputs; `live`: and without deterministic mode."""
    for name in BESIDE:
        if not (lab.server.root / name).exists():
            (lab.server.root / name).symlink_to(ROOT / name)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = cell.source.replace(DETERMINISTIC, "") if live else cell.source
    place = lab.server.root / "notebooks" / path.name
    place.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, place)
    return Tab(lab, f"notebooks/{path.name}")


def photograph(tab: Tab, begin: Path) -> None:
    """Save pictures of a notebook from its top to its end, one for each part that a person looks at."""
    window = tab.page.viewport_size
    height = tab.page.evaluate(_HEIGHT)
    tab.page.set_viewport_size({**window, "height": height})
    tab.page.evaluate(_TOP)
    tab.page.wait_for_timeout(300)  # the page lays itself out anew
    for number, top in enumerate(range(0, height, PART)):
        part = {"x": 0, "y": top, "width": window["width"], "height": min(PART, height - top)}
        tab.page.screenshot(path=f"{begin}-{number}.png", clip=part)
    tab.page.set_viewport_size(window)


def faults(tab: Tab) -> list[str]:
    """Return what is wrong in a notebook of which all cells were run."""
    found = tab.errors()
    for number, cell in enumerate(_cells(tab)):
        if cell["cell_type"] == "code" and cell["execution_count"] is None:
            found.append(f"cell {number} was not run")
        said = [output["text"] for output in cell.get("outputs", ()) if output.get("name") == "stderr"]
        found += [f"cell {number} writes to stderr: {''.join(text)}" for text in said]
    for number, drawn in enumerate(pictures(tab)):
        found += [f"cell {number} has a {kind} that cannot be seen" for kind, is_seen in drawn if not is_seen]
    return found


def pictures(tab: Tab) -> list[list[tuple[str, bool]]]:
    """Return for each cell the kinds of its pictures and widgets, and whether they can be seen."""
    return [tab.page.evaluate(_DRAWN, number) for number in range(tab.cell_count())]


def _cells(tab: Tab) -> list[dict[str, Any]]:
    return tab.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells")


if __name__ == "__main__":
    main()
