"""Which store a command is about: that of `--db-url`, of MG_DATABASE_URL, of `mg.yaml` in this folder, or its own."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click
import yaml
from click.shell_completion import CompletionItem

from stabilize_nb.engine import Engine, default_url, store_path, store_url
from stabilize_nb.errors import ConfigError, StabilizeError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stabilize_nb.run import Run

VARIABLE: Final = "MG_DATABASE_URL"
FILE: Final = "mg.yaml"
#: Runs among which one is found by the end of its id.
NEWEST: Final = 1_000

db_url = click.option(
    "--db-url", metavar="URL", help=f"The store, a file or URL; else {VARIABLE}, {FILE}, or the store of this folder."
)


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def offered(context: click.Context, find: Callable[[Engine], list[CompletionItem]]) -> list[CompletionItem]:
    """Return what Tab offers from the store that a command line names; nothing when it cannot be looked into."""
    with suppress(StabilizeError), opened(context.params.get("db_url")) as engine:
        return find(engine)
    return []


def complete_run(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the runs whose ids begin or end so, newest first, each with its name and status."""

    def found(engine: Engine) -> list[CompletionItem]:
        return [
            CompletionItem(header["id"], help=f"{header['name']} {header['status']}")
            for header in engine.store.list(limit=NEWEST)
            if header["id"].startswith(begun.upper()) or header["id"].endswith(begun.upper())
        ]

    return offered(context, found)


def url_of(given: str | None) -> str:
    """Return the URL of the store that is meant; raises ConfigError for one that cannot be."""
    said = given or os.environ.get(VARIABLE) or _from_file(Path(FILE))
    return default_url() if said is None else store_url(said)


def opened(given: str | None) -> Engine:
    """Open the store that is meant, without working at anything; a file that is not there is not made."""
    url = url_of(given)
    path = store_path(url)
    if path is not None and not path.exists():
        raise StoreError(f"database {path}: there is no such file; name a store by --db-url")
    engine = Engine(url)
    engine.hold()
    return engine


def run_of(engine: Engine, text: str) -> Run:
    """Return the run with an id, or the only one whose id ends so, or the "last" one; raises ConfigError."""
    ids = [header["id"] for header in engine.store.list(limit=NEWEST)]
    if text == "last" and ids:
        return engine.run(ids[0])
    if engine.store.exists(text):
        return engine.run(text)
    found = [id_ for id_ in ids if id_.endswith(text.upper())]
    if len(found) != 1:
        many = f"{len(found)} runs have an id that ends so" if found else "no run has an id that ends so"
        raise ConfigError(f"run {text!r}: {many}; `stabilize-nb runs` lists them")
    return engine.run(found[0])


def _from_file(path: Path) -> str | None:
    """Return the address in `mg.yaml`: its `database` is a URL, or has host, port, user, password, dbname, schema."""
    if not path.exists():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    database = content.get("database") if isinstance(content, dict) else None
    if isinstance(database, str):
        return database
    if not isinstance(database, dict):
        raise ConfigError(f"{path} has no `database`: a URL, or host, port, user, password and dbname")
    return str(database["url"]) if "url" in database else _address(path, database)


def _address(path: Path, parts: Mapping[str, Any]) -> str:
    strange = sorted(map(str, parts.keys() - {"host", "port", "user", "password", "dbname", "schema"}))
    if strange:
        raise ConfigError(f"{path}: {', '.join(strange)} is not known in `database`")
    who = ":".join(quote(str(parts[key]), safe="") for key in ("user", "password") if key in parts)
    schema = f"?schema={quote(str(parts['schema']))}" if "schema" in parts else ""
    host = f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}"
    return f"postgresql://{who}{'@' if who else ''}{host}/{quote(str(parts.get('dbname', 'postgres')))}{schema}"
