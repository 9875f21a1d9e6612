"""What is released is whole; `python -m tests.release` installs and uses it too."""

import subprocess
import sys
import zipfile
from pathlib import Path

import stabilize_nb

ROOT = Path(__file__).parents[2]


def test_the_wheel_has_every_file_of_the_package(tmp_path):
    """Code, SQL, the guide, the marker of types and the stub: what git has of the package is in the wheel."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "stabilize_nb"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.endswith("/")}

    assert {*tracked} - held == set()
    assert {name for name in held if name.startswith("stabilize_nb/") and name.endswith((".sql", ".md"))}
    assert any(name.endswith("entry_points.txt") for name in held)
    assert not any(name.startswith(("tests", "docs", "examples")) for name in held)


def test_checkers_of_types_read_what_is_offered():
    """__init__.pyi imports each public name from the module where __init__.py finds it."""
    told = (ROOT / "stabilize_nb" / "__init__.pyi").read_text(encoding="utf-8")
    homes = stabilize_nb._HOMES
    wanted = {
        f"from {'stabilize_nb' if home == name else f'stabilize_nb.{home}'} import {name} as {name}"
        for name, home in homes.items()
    }

    assert {line for line in told.splitlines() if " as " in line} == wanted
