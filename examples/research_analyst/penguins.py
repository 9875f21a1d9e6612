"""What the researchers can do: tools over the Palmer penguins, 344 birds that were measured in Antarctica."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from palmerpenguins import load_penguins

from stabilize_nb.llm import tool

if TYPE_CHECKING:
    import pandas as pd

Measure = Literal["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
Group = Literal["species", "island", "sex"]


@cache
def penguins() -> pd.DataFrame:
    """Return the penguins that were measured in full."""
    return load_penguins().dropna()


@tool
def means(measure: Measure, by: Group, species: str = "") -> dict[str, float]:
    """Mean of a measure in each group, of all penguins or of one species.

    Args:
        measure: what was measured
        by: how the penguins are grouped
        species: such as Adelie; empty for all
    """
    found = of_species(species).groupby(by)[measure].mean().round(1)
    return {str(group): float(mean) for group, mean in found.items()}


@tool
def interval(measure: Measure, by: Group, first: str, second: str, species: str = "") -> dict[str, Any]:
    """95% interval for how much larger the mean of a measure is in one group than in another, by bootstrap.

    Args:
        measure: what was measured
        by: how the penguins are grouped
        first: the group that is said to be larger
        second: the other one
        species: such as Adelie; empty for all
    """
    frame = of_species(species)
    values = {group: frame.loc[frame[by] == group, measure].to_numpy() for group in (first, second)}
    if any(len(each) == 0 for each in values.values()):
        raise ValueError(f"no penguin is in {first!r} or in {second!r}; {by} has {sorted(frame[by].unique())}")
    random = np.random.default_rng(0)
    draws = [random.choice(each, (1000, len(each))).mean(axis=1) for each in values.values()]
    low, high = np.quantile(draws[0] - draws[1], [0.025, 0.975]).round(1)
    return {"first": first, "second": second, "measure": measure, "low": float(low), "high": float(high)}


def of_species(name: str) -> pd.DataFrame:
    """Return the penguins of a species, or all; raises ValueError for one that is none."""
    frame = penguins()
    if not name:
        return frame
    if name not in set(frame["species"]):
        raise ValueError(f"no species is named {name!r}; there are {', '.join(sorted(frame['species'].unique()))}")
    return frame[frame["species"] == name]
