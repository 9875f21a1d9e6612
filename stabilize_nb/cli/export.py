"""`stabilize-nb export`: a run as a file for other programs, or as a page for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from markupsafe import Markup

from stabilize_nb.cli.stores import complete_run, db_url, opened, run_of
from stabilize_nb.errors import ConfigError
from stabilize_nb.plain import obeyed_by_none
from stabilize_nb.secrets.patterns import masked_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from stabilize_nb.run import Run

_PAGE: Final = Markup(
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{}</title>\n<style>'
    ":root {{ color-scheme: light dark; }} body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; "
    "margin: 2rem auto; padding: 0 1rem; }} img {{ max-width: 100%; height: auto; }}"
    "</style>\n</head>\n<body>\n{}\n</body>\n</html>\n"
)


@click.command(short_help="Write a run into a file: XES, OCEL, JSON, CSV or HTML.")
@click.argument("run", shell_complete=complete_run)
@db_url
@click.option("--to", "kind", type=click.Choice(["xes", "ocel", "json", "csv", "html"]), required=True, help="Format.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file; else the id of the run and the format."
)
def export(run: str, db_url: str | None, *, kind: str, output: Path | None) -> None:
    """
    Write a run into a file. RUN is an id, the end of one, or `last`.

    `xes` and `ocel` are for process mining, `csv` is the log, one fact a row, `json` the run with its stages and log,
    `html` a page that needs nothing else.
    """
    with opened(db_url) as engine:
        found = run_of(engine, run)
        target = output or Path(f"{found.id}.{_ENDINGS.get(kind, kind)}")
        try:
            _WRITERS[kind](found, target)
        except OSError as error:
            msg = f"{target} cannot be written ({error.strerror or error}); choose another place with --output"
            raise ConfigError(msg) from error
    click.echo(obeyed_by_none(str(target)))


def document(run: Run) -> dict[str, Any]:
    """Return a run as JSON has it: its header, inputs, stages with outputs, and log."""
    flow = run.workflow
    stages = [
        {"ref_id": each.ref_id, "name": each.name, "status": each.status.name, "outputs": each.outputs}
        for each in flow.stages
    ]
    about = {"id": flow.id, "application": flow.application, "name": flow.name, "status": flow.status.name}
    rest = {"error": flow.error, "inputs": flow.context, "explain": run.explain(), "stages": stages}
    found: dict[str, Any] = masked_value({**about, **rest, "events": _rows(run.events)})
    return found


def _rows(frame: pd.DataFrame) -> Any:
    return json.loads(frame.to_json(orient="records", date_format="iso", date_unit="ms"))


def _write_json(run: Run, path: Path) -> None:
    path.write_text(json.dumps(document(run), indent=1) + "\n", encoding="utf-8")


def _write_html(run: Run, path: Path) -> None:
    page = _PAGE.format(obeyed_by_none(f"{run.name} · {run.id}"), Markup(run._repr_mimebundle_()["text/html"]))  # noqa: S704 - text is escaped in it
    path.write_text(page, encoding="utf-8", errors="replace")


_ENDINGS: Final = {"ocel": "ocel.json"}
_WRITERS: Final[Mapping[str, Callable[[Run, Path], None]]] = {
    "xes": lambda run, path: run.events.workflow.to_xes(path),
    "ocel": lambda run, path: run.events.workflow.to_ocel(path),
    "csv": lambda run, path: run.events.to_csv(path, index=False),
    "json": _write_json,
    "html": _write_html,
}
