"""
What the scripted model says: the first rule counts whose pattern is found in what it was told last.

The answers hold the real code. The first `slugify` drops letters with accents, which its tests find.
"""

from __future__ import annotations

import json
from typing import Any

MODULES = [
    {"name": "slug", "purpose": "slugify(text): a text as a part of a web address"},
    {"name": "table", "purpose": "table(rows): rows as a Markdown table, columns aligned"},
    {"name": "roman", "purpose": "roman(number): a number from 1 to 3999 in Roman numerals"},
]

SLUG_WRONG = '''\
"""Texts as parts of web addresses."""

import re


def slugify(text: str) -> str:
    """Return a text in small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
'''

SLUG = '''\
"""Texts as parts of web addresses."""

import re
import unicodedata


def slugify(text: str) -> str:
    """Return a text in small letters, digits and hyphens; letters lose their accents."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
'''

TABLE = '''\
"""Tables in Markdown."""


def table(rows: list[list[object]]) -> str:
    """Return rows as a Markdown table; the first row is its head."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*texts, strict=True)]
    texts.insert(1, ["-" * width for width in widths])
    lines = (" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in texts)
    return "\\n".join(f"| {line} |" for line in lines)
'''

ROMAN = '''\
"""Roman numerals."""

STEPS = {
    1000: "M", 900: "CM", 500: "D", 400: "CD", 100: "C", 90: "XC", 50: "L", 40: "XL", 10: "X", 9: "IX", 5: "V", 4: "IV",
    1: "I",
}


def roman(number: int) -> str:
    """Return a number from 1 to 3999 in Roman numerals."""
    if not 1 <= number <= 3999:
        raise ValueError(f"{number} has no Roman numeral; 1 to 3999 have one")
    text = ""
    for value, letters in STEPS.items():
        count, number = divmod(number, value)
        text += letters * count
    return text
'''

TEST_SLUG = """\
import pytest

from textkit.slug import slugify


@pytest.mark.parametrize(
    ("text", "slug"), [("Hello, World!", "hello-world"), ("  many   blanks ", "many-blanks"), ("", "")]
)
def test_plain(text, slug):
    assert slugify(text) == slug


def test_accents():
    assert slugify("Crème brûlée") == "creme-brulee"
"""

TEST_TABLE = """\
from textkit.table import table


def test_columns_are_aligned():
    assert table([["name", "n"], ["Adelie", 146]]).splitlines() == [
        "| name   | n   |",
        "| ------ | --- |",
        "| Adelie | 146 |",
    ]
"""

TEST_ROMAN = """\
import pytest

from textkit.roman import roman


def test_numbers():
    assert [roman(number) for number in (1, 4, 9, 1994, 2026)] == ["I", "IV", "IX", "MCMXCIV", "MMXXVI"]


def test_zero_has_none():
    with pytest.raises(ValueError, match="no Roman numeral"):
        roman(0)
"""

NOTES = [{"module": "slug", "text": "letters with accents vanish; take the accents off and keep the letters"}]


def call(name: str, **arguments: str) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def writes(path: str, content: str, delay: float = 0.2) -> dict[str, Any]:
    return {"tool_calls": [call("write_file", path=path, content=content)], "delay": delay}


TESTS = {"slug": TEST_SLUG, "table": TEST_TABLE, "roman": TEST_ROMAN}

RULES: dict[str, Any] = {
    r"^PLAN": {"text": json.dumps({"modules": MODULES}), "delay": 0.2},
    r"^CODE textkit/slug": writes("textkit/slug.py", SLUG_WRONG),
    r"^CODE textkit/table": writes("textkit/table.py", TABLE, delay=0.4),
    r"^CODE textkit/roman": writes("textkit/roman.py", ROMAN),
    r"^wrote textkit/slug.py, 10 lines": call("run_tests", module="slug"),  # the mended one
    r"^wrote (textkit/\w+.py)": "$1 is written.",
    r"^TEST": {
        "tool_calls": [call("write_file", path=f"tests/test_{name}.py", content=text) for name, text in TESTS.items()],
        "delay": 0.2,
    },
    r"^wrote tests": "There is a file of tests for each module.",
    r"^REVIEW.*FAILED tests/test_slug": {"tool_calls": [call("read_file", path="textkit/slug.py")], "delay": 0.2},
    r"^\"\"\"Texts as parts": {"text": json.dumps({"notes": NOTES}), "delay": 0.2},
    r"^MEND textkit/slug": writes("textkit/slug.py", SLUG),
    r"^RELEASE.* passed": call("release", version="0.1.0"),
    r"^released (\S+)": {"text": "Version 0.1.0 is packed as $1.", "pace": 0.01},
    r"^\.+ +\[100%\]\n(\d+) passed": "It is mended: $1 tests of the module pass.",
}
