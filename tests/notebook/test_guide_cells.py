"""The cells of the guide for coding agents run in a notebook."""

import re

from stabilize_nb.cli.prompt import guide

CELLS = re.compile(r"^```ipython\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


def test_cells_of_the_guide_run(bare):
    """They are one notebook that ends with the result of its run."""
    done = [bare.run(cell) for cell in CELLS.findall(guide())]

    assert [cell.error for cell in done] == [None] * 3
    assert done[-1].value == "PENGUINS: THREE FACTS"
