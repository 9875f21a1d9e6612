"""
What is approved, as a person sees it: Markdown, a table of records, a tree of JSON, a picture, or several by name.

It may come from a model, so what is hidden elsewhere is shown here. HTML in it is text; nothing is fetched: links are
written out and cannot be clicked, pictures are those that are stored. Characters that show nothing, or turn the
direction of writing, are shown by their numbers, and beside Markdown its text can be unfolded.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

from stabilize_nb.notebook.tables import join
from stabilize_nb.secrets.patterns import masked, masked_value

#: Rows of a table, and values of a tree, before the rest is counted; characters of a text before it is cut.
ROWS: Final = 200
NODES: Final = 1_000
LENGTH: Final = 100_000
#: Columns of a text that is shown beside its name.
SHORT: Final = 80

BORDERED: Final = "text-align:left;border:1px solid #767676;padding:2px 8px;vertical-align:top"

_PICTURE: Final = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/]+=*")
_IMAGE: Final = Markup('<img alt="{}" src="{}" style="max-width:100%;max-height:480px;background:#fff">')
_MARKDOWN: Final = Markup("<div>{}</div><details><summary>as it is written</summary>{}</details>")
_TEXT: Final = Markup('<pre style="white-space:pre-wrap;overflow-wrap:anywhere;word-break:normal;margin:0">{}</pre>')
_SECTION: Final = Markup('<div style="margin:4px 0"><b>{}</b><div style="margin-left:1em">{}</div></div>')
_INLINE: Final = Markup('<div style="margin:4px 0"><b>{}</b>: {}</div>')
_CODE: Final = Markup("<code>{}</code>")
_MORE: Final = Markup("<div><i>… and {} more {}, which the decision is about too</i></div>")
_TABLE: Final = Markup('<table style="border-collapse:collapse"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>')
_ADDRESS: Final = Markup(" (<code>{}</code>)")
_HEADING: Final = Markup('<div role="heading" aria-level="{}" style="font-weight:bold;font-size:{}em;margin:6px 0">')
_FENCE: Final = Markup("{}<pre><code>{}</code></pre>")
_SMALL: Final = Markup("<small>{}</small>")
_ROW: Final = Markup("<tr>{}</tr>")
_HEAD: Final = Markup('<th scope="col" style="text-align:left;border:1px solid #767676;padding:2px 8px">{}</th>')
_CELL: Final = Markup('<td style="text-align:{};border:1px solid #767676;padding:2px 8px;vertical-align:top">{}</td>')
_BRANCH: Final = Markup("<details open><summary>{}</summary><div style='margin-left:1.2em'>{}</div></details>")
_LEAF: Final = Markup("<div>{}</div>")
_NAMED: Final = Markup("<b>{}</b>: {}")


def preview(value: Any, name: str = "what is approved") -> Markup:
    """Return a value as HTML, in which keys are masked; `name` is what a picture is called."""
    return _shown(masked_value(value), name)


def _shown(value: Any, name: str) -> Markup:
    if isinstance(value, str):
        return _picture(value, name) or _markdown(value)
    if (records := _records(value)) is not None:
        return _table(*records)
    if isinstance(value, Mapping):
        return join(_part(str(key), part) for key, part in value.items()) or _CODE.format("{}")
    return _Tree().html(value)


def visible(text: str) -> str:
    """Return text, keys masked, in which what shows nothing, or changes how others are shown, is seen by its number."""
    return "".join(map(_seen, masked(text)))


def _seen(char: str) -> str:
    if char in "\n\t\u200c\u200d":
        return char
    is_hidden = unicodedata.category(char) in {"Cc", "Cf", "Cs", "Cn"} or 0xE0100 <= ord(char) <= 0xE01EF  # noqa: PLR2004 - variation selectors
    return f"⟨U+{ord(char):04X}⟩" if is_hidden else char


def _part(name: str, value: Any) -> Markup:
    """Return one of several values, with its name."""
    is_short = not isinstance(value, str | list | Mapping) or (isinstance(value, str) and _is_plain(value))
    if is_short:
        return _INLINE.format(visible(name), _scalar(value) if not isinstance(value, str) else visible(value))
    if isinstance(value, Mapping) and _records(value) is None and not _has_picture(value):
        return _SECTION.format(visible(name), _Tree().html(value))
    return _SECTION.format(visible(name), _shown(value, name))


def _is_plain(text: str) -> bool:
    return len(text) <= SHORT and "\n" not in text and not re.search(r"[*_`#\[\]<>|\\]|data:", text)


# -- pictures -----------------------------------------------------------------------------------------


def _picture(text: str, name: str) -> Markup | None:
    return _IMAGE.format(visible(name), text) if _PICTURE.fullmatch(text) else None


def _has_picture(parts: Mapping[str, Any]) -> bool:
    return any(isinstance(part, str) and _PICTURE.fullmatch(part) for part in parts.values())


# -- Markdown -----------------------------------------------------------------------------------------


class _Renderer(RendererHTML):
    """Writes out what Markdown would hide: addresses, titles, the words behind a fence."""

    def heading_open(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        level = int(tokens[at].tag[1:])
        return str(_HEADING.format(level, f"{1.5 - level / 10:.1f}"))

    def heading_close(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        return "</div>"

    def table_open(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        return '<table style="border-collapse:collapse">'

    def th_open(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        return f'<th scope="col" style="{BORDERED}">'

    def td_open(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        return f'<td style="{BORDERED}">'

    def link_open(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        return "<u>"

    def link_close(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        depth, start = 1, at
        while depth:
            start -= 1
            depth += {"link_close": 1, "link_open": -1}.get(tokens[start].type, 0)
        opening = tokens[start]
        said = [str(opening.attrs.get("href", "")), *filter(None, [str(opening.attrs.get("title", ""))])]
        is_bare = opening.info == "auto"
        return "</u>" if is_bare else "</u>" + str(_ADDRESS.format(" · ".join(said)))

    def fence(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        token = tokens[at]
        info = _SMALL.format(token.info) if token.info.strip() else ""
        return str(_FENCE.format(info, token.content))


def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "breaks": True}, renderer_cls=_Renderer)
    # References and entities would let words of the text be seen by nobody, pictures would be fetched.
    return reader.enable("table").disable(["reference", "image", "entity"])


_READER: Final = _reader()


def _markdown(text: str) -> Markup:
    seen = visible(text[:LENGTH])
    more = _MORE.format(len(text) - LENGTH, "characters") if len(text) > LENGTH else Markup()
    written = _TEXT.format(seen)
    if _is_plain(text):
        return written
    return _MARKDOWN.format(Markup(_READER.render(seen)), written) + more  # noqa: S704 - the reader escapes


# -- tables -------------------------------------------------------------------------------------------


def _records(value: Any) -> tuple[list[str], list[list[Any]]] | None:
    """Return columns and rows of a list of records, or of a frame as `to_dict("split")` gives it; None for others."""
    if isinstance(value, list) and value and all(isinstance(row, Mapping) and row for row in value):
        columns = list(dict.fromkeys(str(name) for row in value for name in row))
        return columns, [[row.get(name, "") for name in columns] for row in value]
    if isinstance(value, Mapping) and set(value) - {"index"} == {"columns", "data"}:
        columns, data = value["columns"], value["data"]
        is_table = isinstance(columns, list) and isinstance(data, list)
        if is_table and all(isinstance(row, list) and len(row) == len(columns) for row in data):
            return list(map(str, columns)), data
    return None


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Markup:
    head = join(_HEAD.format(visible(name)) for name in columns)
    body = join(_ROW.format(join(map(_cell, row))) for row in rows[:ROWS])
    more = _MORE.format(len(rows) - ROWS, "rows") if len(rows) > ROWS else Markup()
    return _TABLE.format(head, body) + more


def _cell(value: Any) -> Markup:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = visible(value) if isinstance(value, str) else _scalar(value)
    return _CELL.format("right" if is_number else "left", text)


# -- trees --------------------------------------------------------------------------------------------


def _scalar(value: Any) -> str:
    return visible(json.dumps(value, ensure_ascii=False, default=dict))


class _Tree:
    """A tree of JSON that can be folded; what is too large for that is shown as text."""

    def __init__(self) -> None:
        self._left = NODES

    def html(self, value: Any) -> Markup:
        tree = self._node(value, "")
        if self._left >= 0:
            return tree
        text = json.dumps(value, ensure_ascii=False, indent=1, default=dict)
        more = _MORE.format(len(text) - LENGTH, "characters") if len(text) > LENGTH else Markup()
        return _TEXT.format(visible(text[:LENGTH])) + more

    def _node(self, value: Any, name: str) -> Markup:
        self._left -= 1
        if self._left < 0:
            return Markup()
        named = visible(name)
        if not value or not isinstance(value, Mapping | list):
            shown = _CODE.format(_scalar(value))
            return _LEAF.format(_NAMED.format(named, shown) if name else shown)
        parts = value.items() if isinstance(value, Mapping) else enumerate(value)
        inside = join(self._node(part, str(key)) for key, part in parts)
        kind = f"{len(value)} entries" if isinstance(value, Mapping) else f"{len(value)} items"
        return _BRANCH.format(_NAMED.format(named, kind) if name else escape(kind), inside)
