"""The page about agents is true: its code runs."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"


def test_code_of_the_page_runs(tmp_path, monkeypatch):
    """The blocks run one after the other, as a reader would run them."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names = {"__name__": "page"}

    for code in blocks:
        exec(compile(code, str(PAGE), "exec"), names)

    assert len(blocks) == 4
