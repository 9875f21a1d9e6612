"""The fields of a gate's form as widgets: one for each, and one for a note; and what was filled in, typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import ipywidgets as w

from stabilize_nb.errors import ConfigError
from stabilize_nb.models.forms import KINDS, Unfit, missing
from stabilize_nb.models.gate import REJECT
from stabilize_nb.notebook.looks import shorten
from stabilize_nb.notebook.panes.widgets import close_all, show

if TYPE_CHECKING:
    from stabilize_nb.models.forms import Field

#: Choices that are buttons beside each other; more are a text field that completes. A list to open would be shorter,
#: but JupyterLab takes the keys that move in it for commands of its own.
FEW: Final = 6
NOTE: Final = "note"
#: Columns of the longest name beside which a field begins.
NAMES: Final = 24


class Fields:
    """The widgets of a form; `note`: for a form that has no field of this name."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = {field.name: field for field in fields}
        names = [field.name for field in fields] + [NOTE]
        self._wide = f"{min(max(map(len, names)), NAMES) + 2}ch"
        self._layout = w.Layout(width="auto", max_width="40em")
        self.by_name = {field.name: self._widget(field) for field in fields}
        if NOTE not in self.by_name:
            self.by_name[NOTE] = self._text("Note", "why, for the record (may stay empty)")

    @property
    def widgets(self) -> tuple[w.Widget, ...]:
        """The widgets in their order."""
        return tuple(self.by_name.values())

    def filled(self, choice: str) -> dict[str, Any]:
        """
        Return what was filled in, for a decision: all that an approval needs, and of a rejection what there is.

        Raises ConfigError for what does not fit its field or is missing.
        """
        typed = {name: _value(widget, self.fields.get(name)) for name, widget in self.by_name.items()}
        if choice == REJECT:
            return self._rejection(typed)
        empty = missing(self.fields.values(), typed)
        if empty:
            raise ConfigError(f"nothing was decided: fill in {', '.join(empty)} first")
        return {name: self._fit(name, value) for name, value in typed.items() if not self._is_left_out(name, value)}

    def _rejection(self, typed: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in typed.items() if not self._is_left_out(name, value)}
        reason = {"reason": typed[NOTE]} if typed[NOTE] else {}
        return {name: self._fit(name, value) for name, value in given.items() if name not in reason} | reason

    def _is_left_out(self, name: str, value: Any) -> bool:
        field = self.fields.get(name)
        return value in {"", None} if field is None else field.is_empty(value)

    def _fit(self, name: str, value: Any) -> Any:
        field = self.fields.get(name)
        try:
            return value if field is None else field.fit(value)
        except Unfit as wrong:
            raise ConfigError(f"nothing was decided: {name} {wrong}") from None

    def enable(self, *, enabled: bool) -> None:
        """Let a person type, or not."""
        for widget in self.by_name.values():
            show(widget, disabled=not enabled)

    def close(self) -> None:
        """Take the widgets away."""
        for widget in self.by_name.values():
            close_all(widget)

    def _widget(self, field: Field) -> w.Widget:
        optional = "" if field.needed else " (may stay empty)"
        match field.kind:
            case "choice":
                return self._choice(field)
            case "bool":
                named = self._named(field.name)
                return w.Checkbox(value=False, indent=True, **named)
            case "date":
                return w.DatePicker(**self._named(field.name))
            case kind:
                return self._text(field.name, KINDS[kind] + optional)

    def _choice(self, field: Field) -> w.Widget:
        labels = _labels(field)
        if len(labels) > FEW:
            hint = f"one of {len(labels)}: {labels[0]}, {labels[1]}, …"
            return w.Combobox(options=labels, placeholder=hint, **self._named(field.name))
        named = self._named(field.name)
        style = {**named["style"], "button_width": "auto"}
        buttons = w.ToggleButtons(options=_numbered(labels), value=None, **{**named, "style": style})
        buttons.add_class("widget-inline-hbox")  # its name before it, as that of every other field
        return buttons

    def _text(self, name: str, hint: str) -> w.Text:
        return w.Text(placeholder=hint, **self._named(name))

    def _named(self, name: str) -> dict[str, Any]:
        words = shorten(name.replace("_", " "), NAMES)
        return {"description": words, "layout": self._layout, "style": {"description_width": self._wide}}


def _labels(field: Field) -> list[str]:
    return [shorten(str(choice)) for choice in field.choices]


def _numbered(labels: list[str]) -> list[tuple[str, int]]:
    """Return labels with their numbers: values of one list may be equal without being the same, such as 1 and True."""
    return [(label, number) for number, label in enumerate(labels, 1)]


def _value(widget: w.Widget, field: Field | None) -> Any:
    if field is None or field.kind != "choice":
        return widget.value
    if isinstance(widget, w.ToggleButtons):
        return field.choices[widget.value - 1] if widget.value else None
    named = dict(zip(_labels(field), field.choices, strict=True))
    return named.get(widget.value, widget.value) or None
