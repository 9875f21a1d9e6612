"""Links between pages lead somewhere, here and in the documentation that is built of them."""

import re
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "docs/api/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\((?!\w+:)([^)\s]*)\)")


def prose(text):
    """Leave out blocks of code and code in lines."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(path):
    """Return the names that the headings of a page have, as forges and myst make them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    kept = [
        "".join(each for each in unicodedata.normalize("NFC", text.lower()) if each.isalnum() or each in " -_")
        for text in headings
    ]
    return {text.strip().replace(" ", "-") for text in kept}


@pytest.mark.parametrize("page", PAGES)
def test_a_link_leads_somewhere(page):
    """The file is there, and so is the heading in it."""
    path = ROOT / page
    wrong = []
    for link in LINK.findall(prose(path.read_text(encoding="utf-8"))):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)

    assert wrong == []


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_a_page_has_one_title_and_it_comes_first(page):
    """What is built of a page is found in the index by its title."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")

    assert text.startswith(("# ", "```{include}"))
    assert len(re.findall(r"^# ", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)) <= 1
