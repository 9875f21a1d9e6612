"""The API reference is complete: what may be imported is on its pages, and says what it is."""

import inspect
import json
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import stabilize_nb
from tests.public.test_names import PATHS

ROOT = Path(__file__).parents[2]
DIRECTIVE = re.compile(r"^\.\. (currentmodule|auto\w+|py:function):: ([\w.]+)", re.MULTILINE)
IMPORT = re.compile(r"^\s*from (stabilize_nb[\w.]*) import (\([^)]*\)|[^\n]*)", re.MULTILINE)
PACKAGES = ("stabilize_nb", "stabilize_nb.events", "stabilize_nb.llm", "stabilize_nb.testing")


#: What needs an extra, and seconds to be imported: it is compared by its path.
EXTRAS = ("stabilize_nb.agents.", "stabilize_nb.langgraph.", "stabilize_nb.llm.mcp.")


def find(path):
    """Return what a dotted path names; the path itself where it needs an extra."""
    if path.startswith(EXTRAS):
        return path
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


@cache
def documented():
    """Return everything that the directives of the reference name."""
    found = []
    for page in (ROOT / "docs" / "api").glob("*.md"):
        module = "stabilize_nb"
        for kind, name in DIRECTIVE.findall(page.read_text(encoding="utf-8")):
            if kind == "currentmodule":
                module = name
            elif kind == "automodule":
                of_it = [value for key, value in vars(import_module(name)).items() if not key.startswith("_")]
                found += [value for value in of_it if getattr(value, "__module__", name) == name]
            else:
                found.append(find(name if name.startswith("stabilize_nb.") else f"{module}.{name}"))
    return found


def shown():
    """Return what programs that we show import: those of the pages, the examples and the notebooks."""
    texts = [path.read_text(encoding="utf-8") for path in [*ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.py")]]
    texts.append((ROOT / "README.md").read_text(encoding="utf-8"))
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for text in texts:
        for module, names in IMPORT.findall(text):
            for name in re.sub(r"#[^\n]*", "", names).strip("()").replace("\n", " ").split(","):
                if name.strip():
                    yield f"{module}.{name.split(' as ')[0].strip()}"


def public():
    """Return the paths of all public names."""
    paths = {f"{path}.{name}" for path, names in PATHS.items() for name in names.split()}
    paths |= {f"{package}.{name}" for package in PACKAGES for name in import_module(package).__all__}
    return sorted(paths | set(shown()))


def test_every_public_name_is_in_the_reference():
    """A name that the package lists, or that a page, a notebook or an example imports, is in docs/api."""
    pages = {id(thing) for thing in documented()} | {thing for thing in documented() if isinstance(thing, str)}
    wanted = {path: find(path) for path in public()}

    missing = [
        path
        for path, thing in wanted.items()
        if not isinstance(thing, ModuleType) and (thing if isinstance(thing, str) else id(thing)) not in pages
    ]
    assert missing == []
    assert len(wanted) > 200


def test_every_public_name_says_what_it_is():
    """Classes and functions of the reference have a docstring of their own."""
    made = [thing for thing in documented() if inspect.isclass(thing) or inspect.isfunction(thing)]

    silent = [thing for thing in made if not thing.__doc__ or thing.__doc__.startswith(f"{thing.__name__}(")]
    assert silent == []
    assert stabilize_nb.__doc__
