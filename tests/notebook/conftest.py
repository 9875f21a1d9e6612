"""A real IPython shell with the extension, in an empty folder."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from stabilize_nb import deterministic
from stabilize_nb.notebook import unload_ipython_extension
from stabilize_nb.notebook.config import StabilizeNB
from stabilize_nb.notebook.runtime import RUNTIME


@dataclass(frozen=True, slots=True)
class Cell:
    """What running a cell gave: all it showed as text, the bundles of it, its value and its error."""

    text: str
    shown: list[dict[str, Any]]
    value: Any
    error: BaseException | None


class Notebook:
    """Runs cells one after the other, as a front end does."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell

    @property
    def names(self) -> dict[str, Any]:
        return self.shell.user_ns

    def run(self, source: str) -> Cell:
        with capture_output() as captured:
            result = self.shell.run_cell(source, store_history=True)
        shown = [output.data for output in captured.outputs]
        said = [captured.stdout, captured.stderr, *(data.get("text/plain", "") for data in shown)]
        if result.result is not None:
            shown.append(self.shell.display_formatter.format(result.result)[0])
        text = re.sub(r"^Out\[\d+\]: \n?", "", "\n".join(filter(None, said)))
        return Cell(text, shown, result.result, result.error_in_exec or result.error_before_exec)

    def complete(self, text: str) -> list[str]:
        """Return what may stand at the place marked by | in a cell."""
        before, _, after = text.partition("|")
        with provisionalcompleter():
            found = list(self.shell.Completer.completions(before + after, len(before)))
        return [completion.text for completion in found]


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Iterator[Notebook]:
    """Make a notebook without the extension."""
    monkeypatch.chdir(tmp_path)
    for name in ("JPY_SESSION_NAME", "STABILIZE_NB_DETERMINISTIC", "STABILIZE_NB_DISPLAY", "STABILIZE_NB_RECOVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(deterministic, "_chosen", None)
    StabilizeNB.clear_instance()
    InteractiveShell.clear_instance()
    settings = Config()
    settings.HistoryManager.enabled = False
    settings.InteractiveShell.colors = "nocolor"
    shell = InteractiveShell.instance(config=settings)
    yield Notebook(shell)
    unload_ipython_extension(shell)
    RUNTIME.forget_all()
    StabilizeNB.clear_instance()
    InteractiveShell.clear_instance()


@pytest.fixture
def notebook(bare) -> Notebook:
    """Make a notebook with the extension."""
    bare.run("%load_ext stabilize_nb")
    return bare
