"""Pages of the documentation are true: their code runs, and prints what stands below it."""

import re
from pathlib import Path

import pytest

from tests.pages import Player

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Their blocks are run by tests/patterns_page, which writes them, and by test_prompt.py.
ELSEWHERE = {"patterns.md", "prompt-trial.md"}


def blocks(page):
    return BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


PAGES = [
    page.name
    for page in sorted((ROOT / "docs").glob("*.md"))
    if page.name not in ELSEWHERE and any(language == "python" for language, _ in blocks(page.name))
]


@pytest.fixture(scope="module")
def player(tmp_path_factory):
    """What runs the programs of the pages."""
    with Player(tmp_path_factory.mktemp("pages")) as player:
        yield player


@pytest.mark.parametrize("page", PAGES)
def test_page_runs_and_prints_what_it_says(page, player):
    """The blocks of a page are one program, and what it prints are the texts of the page."""
    done = player.play(page, "\n".join(code for language, code in blocks(page) if language == "python"))

    assert done.err == ""
    assert done.out == "".join(text for language, text in blocks(page) if language == "text")
    assert done.code == 0
