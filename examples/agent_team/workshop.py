"""What the team can do: the methods of a Workshop are tools that write files, and run the tests of the library."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

#: Seconds that the tests may take.
PATIENCE = 60
#: What tells pytest that it runs on a server, where it says more: a model reads the same words everywhere.
SERVERS = ("CI", "BUILD_NUMBER")
PYTEST = (
    "-m",
    "pytest",
    "-q",
    "--no-header",
    "--tb=line",
    "-p",
    "no:cacheprovider",
    "-c",
    os.devnull,
    "--rootdir",
    ".",
)


class Workshop:
    """The folder of one library. Each tool can be used twice without harm, so a killed one is used again."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def write_file(self, path: str, content: str) -> str:
        """Write a file of the library.

        Args:
            path: relative to the library, such as textkit/slug.py
            content: the whole file
        """
        target = self._inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}.new")
        new.write_text(content, encoding="utf-8")
        new.replace(target)  # the whole file or the one before, also when the process dies here
        return f"wrote {path}, {len(content.splitlines())} lines"

    def read_file(self, path: str) -> str:
        """Read a file of the library."""
        return self._inside(path).read_text(encoding="utf-8")

    def run_tests(self, module: str = "") -> str:
        """Run the tests of a module, or all; returns what pytest says."""
        tests = f"tests/test_{module}.py" if module else "tests"
        variables = {
            **os.environ,
            "PYTHONPATH": ".",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PY_COLORS": "0",
            "COLUMNS": "80",
        }
        for name in SERVERS:
            variables.pop(name, None)
        done = subprocess.run(
            [sys.executable, *PYTEST, tests], cwd=self.folder, env=variables, capture_output=True, text=True,
            check=False, timeout=PATIENCE,
        )  # fmt: skip
        said = re.sub(r" in [\d.]+s", "", done.stdout + done.stderr).replace(str(self.folder), "")
        return said.strip()

    def release(self, version: str) -> str:
        """Pack the library, so that others can have it."""
        package = self.folder / "dist" / f"textkit-{version}.zip"
        package.parent.mkdir(exist_ok=True)
        new = package.with_suffix(".new")
        with zipfile.ZipFile(new, "w") as file:
            for source in sorted(self.folder.rglob("textkit/*.py")):
                file.write(source, source.relative_to(self.folder))
        new.replace(package)
        return f"released {package.name}"

    def _inside(self, path: str) -> Path:
        """Return a place in the folder; models write any path."""
        target = (self.folder / path).resolve()
        if not target.is_relative_to(self.folder.resolve()):
            raise ValueError(f"{path!r} is outside of the library; give a path such as textkit/slug.py")
        return target
