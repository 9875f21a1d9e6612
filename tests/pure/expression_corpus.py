"""Text that is no expression, by what it tries; and a maker of text that may be one or not."""

from __future__ import annotations

import random
from itertools import product

_INSIDES = [
    "__class__",
    "__bases__",
    "__mro__",
    "__subclasses__",
    "__globals__",
    "__builtins__",
    "__dict__",
    "__init__",
    "__getattribute__",
    "__reduce_ex__",
    "__import__",
    "__code__",
    "__closure__",
    "func_globals",
    "gi_frame",
    "f_back",
    "tb_frame",
    "cr_frame",
]
_REACHING = ("report.{}", "(items).{}", "().{}", "''.{}", "report.grade.{}.x", "report.pages[0].{}")

_CALLS = """
    open('/etc/passwd') | eval('1') | exec('x=1') | compile('1', '', 'eval') | globals() | locals() | vars() | dir() |
    getattr(report, 'x') | setattr(report, 'x', 1) | delattr(report, 'x') | type(score) | print(score) | input() |
    len(items) | str(score) | int('1') | breakpoint() | exit() | help() | memoryview(b'x') | super() | object() |
    report.pop('grade') | report.clear() | report.update(a=1) | report.setdefault('x', 1) | report.get("grade") |
    items.append(4) | items.pop() | items.sort() | items.clear() | items.extend(items) | items.__setitem__(0, 1) |
    name.format(score) | '{0.__class__}'.format(score) | name.join(items) | name.encode() | 'x'.upper() | score() |
    (lambda: 1)() | report['grade']() | [1][0]() | score.bit_length() | 'os'.__class__() | default(score, 1)
"""
_OTHER_SYNTAX = """
    lambda: 1 | lambda x: x | lambda *a, **k: 1 | (x := 1) | [x for x in items] | {x for x in items} |
    {x: 1 for x in items} | (x for x in items) | [x async for x in items] | f'{score}' | f'{score!r:>10}' | f'{{}}' |
    2 ** 9 | 2 ** 9 ** 9 ** 9 | 7 % 2 | '%99999999999d' % 1 | 7 // 2 | 1 << 1000000 | 8 >> 1 | 6 & 3 | 6 ^ 3 | ~1 |
    items @ items | items[0:2] | items[:] | items[::2] | items[score] | items[True] | items[1.5] | items[None] |
    items[-score] | items['a':'b'] | items[0, 1] | items[...] | items[b'x'] | {1: 2} | {'a': score} | {1, 2} |
    {**report} | {*items} | b'x' | rb'x' | 1j | 1e5j | ... | *items | [*items] | (*items, 1) | await score |
    yield | yield score | yield from items | score = 1 | score += 1 | score: int = 1 | del score |
    import os | from os import path | pass |
    return score | raise score | assert score | global score | nonlocal score | break | continue | if score: 1 |
    while 1: 1 | for x in items: 1 | with score: 1 | try: 1 | def f(): 1 | class A: 1 | async def f(): 1 | @score |
    score; name | score if name | else score | score == | == score | and score | score and | not | in items | score is |
    score not items | score <> 1 | score === 1 | score && name | score || name | !score | score ? 1 : 0 | score -> 1 |
    $score | `score` | score.. | .score | score.1 | score[ | score] | [1, 2 | {score | 'open | \"\"\"open | 0x | 0b2 |
    0o9 | 01 | 1__0 | 1_ | 1e | 1.2.3 | 5score | score\\ | \\ | # only a comment | score name | score, , name | ,
"""
_HIDDEN = (
    "_private",
    "__builtins__",
    "__import__",
    "__name__",
    "_",
    "__",
    "_context",
    "_max_jumps",
    "_sub_workflow_config",
)
_LARGE = (
    "-" * 100_000 + "1", "-" * 999 + "1", "not " * 200 + "1", "~" * 900 + "1", "(" * 250 + "1" + ")" * 250,
    "(" * 499 + ")" * 499, "[" * 400 + "]" * 400, "{" * 900, "[{(" * 300, "a" + ".b" * 300, "a" + "[0]" * 300,
    " or ".join(["x"] * 300), " and ".join(["x"] * 50_000), " < ".join(["1"] * 10), " < ".join(["1"] * 300),
    " + ".join(["1"] * 100), " - ".join(["1"] * 300), "x if x else " * 60 + "x", "[" + ",".join(["1"] * 400) + "]",
    "9" * 5_000, "'" + "x" * 5_000 + "'", "f'" + "{" * 400 + "}" * 400 + "'", "lambda:" * 100 + "1", "x\n" * 300,
    "# " * 600, " " * 1_001, "x." * 400, "\\\n" * 400, "((((" * 60 + "x" + "))))" * 60,
    "[x for x in " * 40 + "y" + "]" * 40,
)  # fmt: skip
_BYTES = (
    "", " ", "\t\n", "\0", "x\0", "\0x", "\x07", "\x1b[31mx", "x\ny", "\r", "\ufeffx\ufeff", "\ud800",
    "'\ud800'", "x\u2028y",
    "\u202ex", "x\u200by", "\uff08x\uff09", "x\uff1d\uff1d1", "\U000e0041", "\u00a0\u3000x x", "x\x0cy",
    "\N{GREEK QUESTION MARK}",
)  # fmt: skip


def _listed(text: str) -> list[str]:
    return [each.strip() for line in text.strip().split("\n") for each in line.strip().rstrip("|").split(" | ")]


#: None of these is an expression.
HOSTILE: tuple[str, ...] = (
    *(form.format(inside) for form, inside in product(_REACHING, _INSIDES) if inside.startswith("_")),
    *_listed(_CALLS), *_listed(_OTHER_SYNTAX), *_HIDDEN, *_LARGE, *_BYTES,
)  # fmt: skip

_ATOMS = [
    "score",
    "name",
    "flag",
    "items",
    "report",
    "nothing",
    "nowhere",
    "true",
    "None",
    "0",
    "1",
    "-3",
    "2.5",
    "1e308",
    "9223372036854775807",
    "'ann'",
    "''",
    "[]",
    "[1,2]",
    "()",
    "report.grade",
    "report['grade']",
    "items[0]",
    "items[-9]",
    "report.pages[0].n",
    "huge",
    "deep",
    "other",
    "odd",
    "_signal_name",
]
_BETWEEN = (
    "==", "!=", "<", "<=", ">", ">=", "in", "not in", "is", "is not", "and", "or", "+", "-", "*", "/",
)  # fmt: skip
_SOUP = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    ":",
    ";",
    "==",
    "=",
    ":=",
    "<",
    ">",
    "!",
    "not",
    "and",
    "or",
    "if",
    "else",
    "in",
    "is",
    "lambda",
    "for",
    "yield",
    "await",
    "f'",
    "'",
    '"',
    "\\",
    "\n",
    "\t",
    "#",
    "**",
    "%",
    "~",
    "@",
    "->",
    "*",
    "/",
    "x",
    "score",
    "__class__",
    "report",
    "items",
    "0",
    "1",
    "1_",
    "1e",
    "0x",
    "é",
    "\u202e",
    "\x00",
    "�",
    "'",
    '"""',
]


def _written(draw: random.Random, depth: int) -> str:
    """Write an expression of the language."""
    if depth == 0 or draw.random() < 0.25:
        return draw.choice(_ATOMS)
    inner = [_written(draw, depth - 1) for _ in range(3)]
    form = draw.choice(("({0} {op} {1})", "{0} {op} {1}", "not {0}", "-{0}", "[{0}, {1}]", "({0} if {1} else {2})"))
    return form.format(*inner, op=draw.choice(_BETWEEN))


def fuzzed(seed: int, count: int) -> list[str]:
    """Return texts: of the language, of the language with something wrong in it, and heaps of pieces."""
    draw = random.Random(seed)
    texts = []
    for number in range(count):
        text = _written(draw, draw.randrange(1, 5))
        if number % 3 == 1:
            at = draw.randrange(len(text) + 1)
            text = (
                text[:at]
                + draw.choice((draw.choice(_SOUP), chr(draw.randrange(0x3000))))
                + text[at + draw.randrange(3) :]
            )
        elif number % 3 == 2:
            text = draw.choice(("", " ")).join(draw.choices(_SOUP, k=draw.randrange(1, 60)))
        texts.append(text)
    return texts
