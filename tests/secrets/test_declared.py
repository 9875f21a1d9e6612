"""A secret that was declared is nowhere afterwards, in whatever spelling a stage gave it away (R20)."""

from __future__ import annotations

import base64
import json
import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from stabilize_nb import Engine, Flow, secret
from stabilize_nb.events.bus import get_event_bus
from stabilize_nb.notebook.gates import Asked
from stabilize_nb.notebook.mermaid import to_mermaid
from stabilize_nb.notebook.past import values_table
from stabilize_nb.notebook.preview import preview
from stabilize_nb.notebook.views import run_bundle
from tests.secrets.keys import declared, spellings

if TYPE_CHECKING:
    from stabilize_nb import Run
    from stabilize_nb.models.stage import StageExecution

log = logging.getLogger("stabilize_nb")

leaky = Flow("leaky")


@leaky.stage
def give(key: str, stage: StageExecution) -> dict[str, Any]:
    """Give a key away in many spellings: as outputs, in print, progress, log, steps."""
    user = base64.b64encode(f"me:{key}".encode()).decode()
    given = {
        "plain": key, "header": f"Bearer {key}", "basic": f"Basic {user}", "url": f"https://x/?k={quote(key, safe='')}",
        "json": json.dumps({"key": key}), "inside": [{"deep": {key: [key]}}], "hex": key.encode().hex(),
        "repr": repr(key), "number": int(key) if key.isdigit() else 0,
    }  # fmt: skip
    print("key is", key, user)
    print("".join(["key in ", *"parts "]), end="")
    for part in (key[:5], key[5:]):
        print(part, end="")
    stage.progress(0.5, f"asked with {key}", given=given)
    log.warning("asked with %s", key)
    assert stage.step("ask", lambda: {**given, "plain": key})["plain"] == key
    return given


@leaky.stage(after="give")
def check(give: dict[str, Any], key: str) -> dict[str, Any]:
    """A secret that was returned as a whole is itself again."""
    assert give["plain"] == key
    return {"again": give["plain"], "context": {"note": key * 2}}


leaky.approval("Send it?", name="gate", after="check", show="check")


@leaky.stage(after="gate")
def fail(key: str) -> None:
    """Fail, with the key in the sentence, in its cause, and where a cut would go through it."""
    try:
        raise LookupError(f"{'x' * 3_950}{key}")
    except LookupError as cause:
        raise ValueError(f"server refused {key!r} and {quote(key)}") from cause


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The keys by the names of their secrets, in the environment."""
    found = {f"KEY_{number}": key for number, key in enumerate(declared().values())}
    for name, key in found.items():
        monkeypatch.setenv(name, key)
    return found


def bytes_of(path: Path) -> str:
    """Return a database with what lies beside it as text."""
    return "\n".join(file.read_bytes().decode("utf-8", "replace") for file in path.parent.glob(f"{path.name}*"))


def sinks_of(run: Run, folder: Path) -> dict[str, str]:
    """Return what a run leaves wherever it is looked at."""
    events = run.events
    events.workflow.to_xes(folder / "run.xes")
    events.workflow.to_ocel(folder / "run.json")
    state = run.at(len(events) - 1)
    html = [str(run_bundle(run)), str(values_table("output", run.outputs).html()), str(preview(run.outputs))]
    return {
        "outputs": repr(run.outputs) + json.dumps(run.outputs) + repr(run.inputs),
        "events": events.to_csv() + json.dumps([dict(each) for each in events["data"]]),
        "frames": run.stages.to_csv() + run.tasks.to_csv() + run.calls.to_csv() + run.diff(1).to_csv(),
        "log": str(run.log()),
        "errors": f"{run.error} {run.explain()} {run.workflow}",
        "HTML": "".join(html) + to_mermaid(run.workflow),
        "exports": (folder / "run.xes").read_text() + (folder / "run.json").read_text(),
        "past": str(state) + repr(state.outputs),
    }


def test_declared_secrets_are_nowhere(
    keys: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fifty-one secrets in twelve places: none is found, in no spelling; runs compute with them all the same."""
    told: list[str] = []
    path = tmp_path / "runs.db"
    hits: Counter[str] = Counter()
    with Engine(path, durability="normal") as engine:
        get_event_bus().subscribe("secrets", lambda event: told.append(repr(event)))
        runs = [engine.start(leaky, key=secret(name)) for name in keys]
        texts: list[dict[str, str]] = []
        for run in runs:
            gate = run.until_gate(20)[0]
            shown = repr(gate) + str(Asked(gate, 0).html()) + "\n".join(Asked(gate, 0).lines())
            run.approve("gate", note="so be it")
            run.wait(20)
            assert run.status.name == "TERMINAL"
            with pytest.raises(Exception, match="server refused") as failure:
                run.result()
            texts.append({**sinks_of(run, tmp_path), "gates": shown, "raised": str(failure.value)})
        engine.database.flush()
        everywhere = {"WAL": bytes_of(path), "told": "".join(told)}
    get_event_bus().unsubscribe("secrets")
    everywhere |= {"database": bytes_of(path), "logging": caplog.text, "terminal": "".join(capsys.readouterr())}

    for number, key in enumerate(keys.values()):
        ways = {spelling: how for how, spelling in spellings(key).items()}
        for sink, text in {**texts[number], **everywhere}.items():
            hits += Counter(f"{key!r} as {how} in {sink}" for spelling, how in ways.items() if spelling in text)
    found = [*hits]
    places = len(texts[0]) + len(everywhere)
    print(f"{len(keys)} secrets x {places} places x {len(spellings('x'))} spellings: {len(found)} found")
    assert found == []
    assert all("[secret KEY_0]" in text for text in everywhere.values())
    assert places >= 12
