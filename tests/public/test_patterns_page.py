"""docs/patterns.md is true: its code is run, and its pictures and results are what comes of it."""

import re
import time

import pytest

from tests.patterns_page.page import GROUPS, PAGE, PICTURES, generate, split

COMMAND = "python -m tests.patterns_page"


@pytest.fixture(scope="module")
def made():
    """The page and the pictures as they should be, and how many seconds it took to make them."""
    began = time.monotonic()
    return *generate(PAGE.read_text(encoding="utf-8")), time.monotonic() - began


def test_the_page_is_what_its_code_gives(made):
    """The page that is kept is the page that is made."""
    page, _, took = made

    assert PAGE.read_text(encoding="utf-8") == page, f"the page is out of date: {COMMAND}"
    assert took < 60


def test_the_pictures_are_those_of_the_runs(made):
    """The pictures that are kept are the pictures that are made, and there are no others."""
    _, pictures, _ = made
    kept = {path.name: path.read_text(encoding="utf-8") for path in PICTURES.iterdir()}

    assert sorted(kept) == sorted(pictures)
    assert [name for name in kept if kept[name] != pictures[name]] == [], f"pictures are out of date: {COMMAND}"


def test_all_43_patterns_are_there_in_order():
    """The numbers run from 1 to 43, and each pattern is in one group of the contents."""
    _, _, patterns = split(PAGE.read_text(encoding="utf-8"))

    assert [pattern.number for pattern in patterns] == list(range(1, 44))
    assert sorted(number for numbers in GROUPS.values() for number in numbers) == list(range(1, 44))


def test_no_two_patterns_look_alike():
    """A reader can tell all patterns apart by their pictures and results."""
    text = PAGE.read_text(encoding="utf-8")
    results = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)

    assert len(results) == 43
    assert len(set(results)) == 43


def test_the_page_holds_nothing_that_changes():
    """There are no ids, times or paths of this machine in what is made."""
    kept = [PAGE, *PICTURES.iterdir()]

    assert [path.name for path in kept if re.search(r"run-\d|[0-9A-Z]{26}|20\d\d-\d\d|/work/", path.read_text())] == []
