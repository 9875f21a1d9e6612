"""
The pipeline: from the notes of the Palmer Station to a table in a report.

    load → clean (looked at by `plausible`) → compare, once for each species → report

Tables go from stage to stage as files, and the values between stages are their paths. A body that dies half-way is run
again, so each of them writes the same file again, whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from palmerpenguins import load_penguins_raw

from stabilize_nb import Flow

Progress = Callable[[float, str], None]
Outputs = dict[str, Any]

#: What a penguin can measure; what lies outside is a slip of whoever wrote it down.
PLAUSIBLE = {
    "bill_length_mm": (30, 62),
    "bill_depth_mm": (12, 23),
    "flipper_length_mm": (165, 240),
    "body_mass_g": (2500, 6500),
}
NAMES = {
    "Species": "species",
    "Island": "island",
    "Sex": "sex",
    "Culmen Length (mm)": "bill_length_mm",
    "Culmen Depth (mm)": "bill_depth_mm",
    "Flipper Length (mm)": "flipper_length_mm",
    "Body Mass (g)": "body_mass_g",
}
BATCHES, SAMPLES = 10, 200

flow = Flow("pipeline", description="What female and male penguins weigh")


@flow.stage
def load(folder: str, progress: Progress) -> Outputs:
    notes = load_penguins_raw()
    progress(1, f"{len(notes)} penguins")
    return {"notes": written(notes, folder, "notes.csv"), "total": len(notes)}


def plausible(clean: Outputs) -> str | None:
    """Say what cannot be right in the cleaned table; None when everything can."""
    table = pd.read_csv(clean["table"])
    wrong = {name: int((~table[name].between(low, high)).sum()) for name, (low, high) in PLAUSIBLE.items()}
    said = [f"{count} penguins with an impossible {name}" for name, count in wrong.items() if count]
    return ", ".join(said) or None


@flow.stage(after=load, verify=plausible)
def clean(notes: str, folder: str, progress: Progress) -> Outputs:
    table = pd.read_csv(notes).rename(columns=NAMES)[list(NAMES.values())]
    table["species"] = table["species"].str.split().str[0]
    table["sex"] = table["sex"].str.lower()
    measured = table.dropna(subset=[*PLAUSIBLE])
    kept = measured.dropna(subset="sex")
    left_out = {"not measured": len(table) - len(measured), "sex not known": len(measured) - len(kept)}
    progress(1, f"{len(kept)} of {len(table)} penguins kept")
    return {
        "table": written(kept, folder, "penguins.csv"),
        "left_out": left_out,
        "kinds": sorted(kept["species"].unique()),
    }


@flow.stage(each="kinds", as_="kind", after=clean)
def compare(kind: str, table: str, progress: Progress) -> Outputs:
    """Return what the sexes of a species weigh, and a bootstrap interval for the difference."""
    penguins = pd.read_csv(table).query("species == @kind")
    female, male = (penguins.loc[penguins["sex"] == sex, "body_mass_g"].to_numpy() for sex in ("female", "male"))
    random, gaps = np.random.default_rng(0), []
    for batch in range(BATCHES):
        draws = [random.choice(masses, (SAMPLES, len(masses))).mean(axis=1) for masses in (male, female)]
        gaps.append(draws[0] - draws[1])
        progress((batch + 1) / BATCHES, f"{kind}: {(batch + 1) * SAMPLES} samples")
    low, high = np.quantile(np.concatenate(gaps), [0.025, 0.975])
    return {
        "species": kind,
        "count": len(penguins),
        "female": float(female.mean()),
        "male": float(male.mean()),
        "gap": [float(low), float(high)],
    }


@flow.stage
def report(compare: list[Outputs], total: int, left_out: dict[str, int], folder: str) -> Outputs:
    rows = [
        f"| {each['species']} | {each['count']} | {each['female']:.0f} | {each['male']:.0f} "
        f"| {each['gap'][0]:.0f} to {each['gap'][1]:.0f} |"
        for each in compare
    ]
    lines = [
        f"{total} penguins; left out: " + ", ".join(f"{count} {why}" for why, count in left_out.items()) + ".",
        "",
        "| species | penguins | females, g | males, g | males are heavier by, g (95%) |",
        "|---|---|---|---|---|",
        *rows,
    ]
    path = Path(folder, "report.md")
    replace(path, "\n".join(lines) + "\n")
    return {"path": str(path)}


def written(table: pd.DataFrame, folder: str, name: str) -> str:
    """Write a table as CSV, and return its path."""
    path = Path(folder, name)
    replace(path, table.to_csv(index=False))
    return str(path)


def replace(path: Path, text: str) -> None:
    """Write a file whole or not at all, wherever the process dies."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
