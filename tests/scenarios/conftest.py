"""A table at the end of a session: how many scenarios of each pattern were carried out, and how many passed."""

from __future__ import annotations

import pytest

_PATTERNS = range(1, 44)
_passed: dict[str, tuple[tuple[int, ...], bool]] = {}  # id of a case -> its patterns, whether every cell passed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    case = getattr(getattr(item, "callspec", None), "params", {}).get("case")
    if hasattr(case, "patterns") and (report.when == "call" or report.failed):
        _, passed = _passed.get(case.id, ((), True))
        _passed[case.id] = case.patterns, passed and report.passed
    return report


def pytest_terminal_summary(terminalreporter):
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
