"""
Configuration of the documentation: `sphinx-build -W docs docs/_build`, without a network.

Notebooks are shown as they are saved: the tests run them and compare every output.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

import stabilize_nb

HERE = Path(__file__).parent
ROOT = HERE.parent

project = "stabilize_nb"
author = "the authors of stabilize_nb"
copyright = author  # noqa: A001 - Sphinx asks for it by this name
version = release = stabilize_nb.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
html_theme = "furo"
html_title = "stabilize_nb"
html_static_path = ["_static"]
html_extra_path = ["llms.txt"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"

myst_enable_extensions = ["colon_fence", "attrs_block"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, Any] = {}  # the saved pictures are shown; nothing is loaded from elsewhere
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "undoc-members": True}
suppress_warnings = ["ref.python"]  # of the annotation `type`, which is also the name of attributes
toc_object_entries = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100


class LightAndDark(SphinxTransform):
    """A picture that has a twin for dark pages gets it beside it; the theme shows one of them."""

    default_priority = 200

    def apply(self, **_: Any) -> None:
        folder = Path(self.env.doc2path(self.env.docname)).parent
        for image in list(self.document.findall(nodes.image)):
            twin = image["uri"].replace("-light.", "-dark.")
            if twin != image["uri"] and (folder / twin).is_file():
                dark = image.deepcopy()
                dark["uri"] = twin
                image["classes"].append("only-light")
                dark["classes"].append("only-dark")
                image.parent.insert(image.parent.index(image) + 1, dark)


def bring_notebooks(app: Sphinx) -> None:
    """Copy the notebooks to where pages are, without the state of widgets: they would be loaded from elsewhere."""
    target = HERE / "notebooks"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        shutil.copy(notebook, target)


def bring_examples(app: Sphinx) -> None:
    """Make a page of each example: its README, and then its code."""
    target = HERE / "examples"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for page in sorted((ROOT / "examples").glob("*/README.md")):
        code = [
            f"## `{path.name}`\n\n```{{literalinclude}} ../../{path.relative_to(ROOT).as_posix()}\n```\n"
            for path in sorted(page.parent.glob("*.py"))
        ]
        text = "\n".join([page.read_text(encoding="utf-8"), *code])
        (target / f"{page.parent.name}.md").write_text(text, encoding="utf-8")


def link_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Have links to files of the repository lead to the pages made of them."""
    source[0] = re.sub(r"\]\((?:\.\./)*notebooks/(\w+\.ipynb)\)", rf"]({up(page)}notebooks/\1)", source[0])
    source[0] = re.sub(r"\]\((?:\.\./)*examples/(\w+)/README\.md\)", rf"]({up(page)}examples/\1.md)", source[0])
    source[0] = re.sub(r"\]\((?:\.\./)+docs/([^)]+)\)", rf"]({up(page)}\1)", source[0])
    if "/" not in page:  # other files above are not part of the documentation: they come as they are
        source[0] = re.sub(r"\]\((\.\./[^)#]+\.md)\)", r"](path:\1)", source[0])


def as_rst(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Make reStructuredText of a docstring: what is in backticks is code, what is indented by itself is a block."""
    text, made = "\n".join(lines), []
    for at, part in enumerate(re.split(r"(\n\n(?: {4}.*(?:\n|$)|\n)+)", text)):
        if at % 2:
            made.append(f"\n\n::{part.rstrip()}\n\n")
        else:
            spans = part.split("`")
            made += [
                f"``{span.strip()}``" if i % 2 else re.sub(r"([*|\\]|_\b)", r"\\\1", span)
                for i, span in enumerate(spans)
            ]
    lines[:] = "".join(made).split("\n")


def up(page: str) -> str:
    """Return what leads from a page to the folder of the documentation."""
    return "../" * page.count("/")


def setup(app: Sphinx) -> None:
    """Make the parts of this file known."""
    app.connect("builder-inited", bring_notebooks)
    app.connect("builder-inited", bring_examples)
    app.connect("source-read", link_pages)
    app.connect("autodoc-process-docstring", as_rst)
    app.add_transform(LightAndDark)
