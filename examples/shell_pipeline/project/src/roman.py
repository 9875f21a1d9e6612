"""Roman numerals from 1 to 3999."""

from __future__ import annotations

import sys

LETTERS = {
    "M": 1000,
    "CM": 900,
    "D": 500,
    "CD": 400,
    "C": 100,
    "XC": 90,
    "L": 50,
    "XL": 40,
    "X": 10,
    "IX": 9,
    "V": 5,
    "IV": 4,
    "I": 1,
}


def written(number: int) -> str:
    """Return a number in Roman numerals; raises ValueError for one that has none."""
    if not 0 < number < 4000:
        raise ValueError(f"{number} has no Roman numeral; a number from 1 to 3999 is expected")
    text = ""
    for letters, value in LETTERS.items():
        count, number = divmod(number, value)
        text += letters * count
    return text


def read(text: str) -> int:
    """Return the number that Roman numerals stand for; raises ValueError for other text."""
    rest, number = text, 0
    for letters, value in LETTERS.items():
        while rest.startswith(letters):
            rest, number = rest[len(letters) :], number + value
    if rest or text != written(number):
        raise ValueError(f"{text!r} is no Roman numeral")
    return number


def main() -> None:
    """Print the numbers of the command line."""
    for each in sys.argv[1:]:
        print(written(int(each)))
