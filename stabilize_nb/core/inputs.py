"""What a run of a stage sees: its causal history, merged, under its own context (patterns.md 2.4, api.md 2.1).

Outputs are not copied down the graph. A row inherits references, key -> producers, and the values are read from
the producers' rows when they are needed. Nearer rows win over farther ones, ties go by ref_id; lists of several
producers are joined without repeating an item.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stabilize_nb.models.stage import Upstream
from stabilize_nb.models.values import EMPTY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stabilize_nb.core.draft import Draft
    from stabilize_nb.core.rows import StageRow


def heritage(rows: Sequence[StageRow]) -> dict[str, Any]:
    """Return key -> [[depth, ref_id, stage id], ...] for a run that these rows led to."""
    if not rows:
        return {}
    if len(rows) == 1 and not rows[0].outputs:
        return dict(rows[0].inherited)
    merged: dict[str, list[list[Any]]] = {}
    for row in rows:
        for key, producers in _producers(row).items():
            known = merged.setdefault(key, [])
            known.extend(producer for producer in producers if producer not in known)
    for producers in merged.values():
        producers.sort()
    return merged


def _producers(row: StageRow) -> dict[str, list[list[Any]]]:
    own = [row.depth, row.ref_id, row.id]
    producers = {key: list(known) for key, known in row.inherited.items()}
    for key, value in row.outputs.items():
        before = producers.get(key, []) if isinstance(value, list) else []
        producers[key] = [*before, own]
    return producers


def visible(draft: Draft, row: StageRow) -> dict[str, Any]:
    """Return what the row sees: workflow context, inherited outputs over it, own context over both."""
    inherited = row.inherited
    if inherited:
        draft.stages(id_ for producers in inherited.values() for _, _, id_ in producers)
    seen = dict(draft.head.context)
    for key, producers in inherited.items():
        values = [
            source.outputs[key] for _, _, id_ in producers if (source := draft.find(id_)) and key in source.outputs
        ]
        if values:
            seen[key] = _folded(values)
    for key, value in row.context.items():
        seen[key] = _folded([seen.get(key), value]) if key in inherited and isinstance(value, list) else value
    return seen


def _folded(values: Iterable[Any]) -> Any:
    result: Any = None
    for value in values:
        joins = isinstance(result, list) and isinstance(value, list)
        result = result + _others(value, result) if joins else value
    return result


def _others(items: list[Any], known: list[Any]) -> list[Any]:
    """Return the items that are not known; a list that is passed along is the same again, or has the same beginning."""
    if items[: len(known)] == known:
        items = items[len(known) :]
    plain = {item for item in known if item.__hash__}
    rest = [item for item in known if not item.__hash__]
    return [item for item in items if (item not in plain if item.__hash__ else item not in rest)]


def upstream(draft: Draft, row: StageRow) -> dict[str, tuple[Upstream, ...]]:
    """Return what the direct requisites left behind, by ref_id of the stage; one entry a run, in graph order."""
    rows = draft.stages(row.triggers)
    rows.sort(key=lambda source: (source.ordinal, source.activation))
    found: dict[str, tuple[Upstream, ...]] = {}
    for source in rows:
        entry = Upstream(ref_id=source.ref_id, outputs=source.outputs, context=source.context)
        found[source.spec.ref_id] = (*found.get(source.spec.ref_id, ()), entry)
    return found


def delivered(signal: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the context keys under which a body sees the signal that resumed it."""
    return EMPTY if signal is None else {"_signal_name": signal["name"], "_signal_data": signal["data"]}
