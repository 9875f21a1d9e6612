"""A tutorial in the browser; `python -m tests.browser.notebooks` does this with all of them."""

from tests.browser.notebooks import NOTEBOOKS, faults, opened, pictures


def test_tutorial_runs_and_is_drawn(lab):
    """Every cell of it is run without an error, and its pictures can be seen."""
    tab = opened(lab, NOTEBOOKS / "05_cell_by_cell.ipynb")
    tab.run_all()

    assert faults(tab) == []
    assert sum(map(len, pictures(tab))) >= 6
    tab.close()
