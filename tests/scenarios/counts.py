"""
What stands at the end of a session: how many scenarios of each pattern passed, and lines that tests have said.

A test says a line by `record_property("line", ...)`.

The hooks are taken in by tests/conftest.py. A report carries what its case is about, so that the table is also right
when other processes run the tests.
"""

from __future__ import annotations

import pytest

_PATTERNS = range(1, 44)
_lines: list[str] = []
_passed: dict[str, tuple[tuple[int, ...], bool]] = {}  # id of a case -> its patterns, whether every cell passed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    case = getattr(getattr(item, "callspec", None), "params", {}).get("case")
    if hasattr(case, "patterns") and (report.when == "call" or report.failed):
        report.user_properties.append(("case", [case.id, list(case.patterns)]))
    return report


def pytest_runtest_logreport(report):
    if report.when == "call":
        _lines.extend(value for name, value in report.user_properties if name == "line")
    for name, value in report.user_properties:
        if name == "case":
            case_id, patterns = value
            _, passed = _passed.get(case_id, ((), True))
            _passed[case_id] = tuple(patterns), passed and report.passed


def pytest_terminal_summary(terminalreporter):
    if _lines:
        terminalreporter.section("counted")
        for line in _lines:
            terminalreporter.write_line(line)
    if not _passed:
        return
    terminalreporter.section("control-flow patterns: scenarios passed / carried out")
    cells = []
    for number in _PATTERNS:
        results = [passed for patterns, passed in _passed.values() if number in patterns]
        mark = "  --" if not results else "  ok" if all(results) else "FAIL"
        cells.append(f"WCP-{number:<2} {sum(results):>3}/{len(results):<3}{mark}")
    rows = -(-len(cells) // 4)
    for at in range(rows):
        terminalreporter.write_line("    ".join(cells[at::rows]))
