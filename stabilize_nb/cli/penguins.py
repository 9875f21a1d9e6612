"""
The workflow of `stabilize-nb demo`: three analysts study 333 penguins of the Palmer archipelago.

    load → plan → sexes, islands, species → draft (2 of 3) → review → sign_off → report
             ↑                                                  │
             └────────────── more samples ──────────────────────┘

The review goes back to the plan once, because the first look is too coarse. The third analyst is not waited for: what
it finds stands in the report when it came before the decision, below the text that was approved.
All numbers are computed here and drawn with fixed seeds, so every run of the same settings finds the same ones.
"""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stabilize_nb.flow import Flow, jump

if TYPE_CHECKING:
    from collections.abc import Callable

    from stabilize_nb.models.stage import StageExecution

Columns = dict[str, list[Any]]
Finding = dict[str, Any]

BATCHES = 25
MEASURES = ["bill_length_mm", "bill_depth_mm"]

flow = Flow("penguins", description="What the Palmer penguins differ in")


@flow.stage
def load(progress: Callable[..., None]) -> dict[str, Any]:
    """Load the data set and keep the penguins that were measured in full."""
    from palmerpenguins import load_penguins  # noqa: PLC0415 - comes with the extra lab only

    everything = load_penguins()
    kept = everything.dropna()
    progress(1, f"{len(everything)} penguins, {len(kept)} of them complete")
    columns = ["species", "island", "sex", "flipper_length_mm", "body_mass_g", *MEASURES]
    return {"penguins": kept[columns].to_dict("list"), "total": len(everything)}


@flow.stage(after=load)
def plan(quick: int, progress: Callable[..., None], samples: int | None = None) -> dict[str, int]:
    """Say how many random samples each analyst draws: a quick look first, what the review asks for later."""
    progress(1, f"{samples or quick} samples for each analyst")
    return {"samples": samples or quick}


@flow.stage(after=plan)
def sexes(penguins: Columns, samples: int, stage: StageExecution, progress: Callable[..., None]) -> Finding:
    """Bootstrap an interval for how much heavier males are than females."""
    frame = pd.DataFrame(penguins)
    mass = frame["body_mass_g"].to_numpy()
    group = (frame["species"] + " " + frame["sex"]).to_numpy()

    def gap(rows: Any) -> float:
        means = pd.Series(mass[rows]).groupby(group[rows]).mean()
        return float(np.mean([means[f"{kind} male"] - means[f"{kind} female"] for kind in frame["species"].unique()]))

    def draw(random: np.random.Generator, count: int) -> list[float]:
        return [gap(random.integers(len(mass), size=len(mass))) for _ in range(count)]

    draws = in_batches(draw, samples, stage, progress)
    found, (low, high) = gap(slice(None)), interval(draws)
    progress(1, f"males are {found:.0f} g heavier")
    answer = f"Within a species, males are {found:.0f} g heavier than females (95% interval {low:.0f} to {high:.0f} g)."
    return {"name": "sexes", "answer": answer, "error": error_of_interval(draws), "samples": samples}


@flow.stage(after=plan)
def islands(penguins: Columns, samples: int, stage: StageExecution, progress: Callable[..., None]) -> Finding:
    """Test by permutation whether the flippers of Adelie penguins differ between the islands."""
    frame = pd.DataFrame(penguins)
    adelie = frame[frame["species"] == "Adelie"]
    flipper, island = adelie["flipper_length_mm"], adelie["island"].to_numpy()

    def spread(places: Any) -> float:
        means = flipper.groupby(places).mean()
        return float(means.max() - means.min())

    def draw(random: np.random.Generator, count: int) -> list[float]:
        return [spread(random.permutation(island)) for _ in range(count)]

    draws = in_batches(draw, samples, stage, progress)
    found = spread(island)
    chance = float(np.mean(np.array(draws) >= found))
    progress(1, f"the islands differ by {found:.1f} mm, p = {chance:.2f}")
    answer = (
        f"Mean flipper lengths of Adelie penguins differ by {found:.1f} mm between the islands; "
        f"chance alone gives as much in {chance:.1%} of {samples} permutations."
    )
    error = math.sqrt(chance * (1 - chance) / samples)
    return {"name": "islands", "answer": answer, "error": error, "samples": samples}


@flow.stage(after=plan)
def species(penguins: Columns, samples: int, stage: StageExecution, progress: Callable[..., None]) -> Finding:
    """Measure how well the bill alone tells the species, by logistic regression on bootstrap samples."""
    frame = pd.DataFrame(penguins)
    truth, _ = pd.factorize(frame["species"])
    measured = frame[MEASURES].to_numpy()
    scaled = (measured - measured.mean(axis=0)) / measured.std(axis=0)
    x = np.column_stack([np.ones(len(scaled)), scaled])

    def accuracy(rows: Any) -> float:
        weights = np.bincount(rows, minlength=len(x))
        guesses = np.argmax(x @ fitted(x, truth, weights), axis=1)
        left_out = weights == 0
        return float(np.mean(guesses[left_out] == truth[left_out]))

    def draw(random: np.random.Generator, count: int) -> list[float]:
        return [accuracy(random.integers(len(x), size=len(x))) for _ in range(count)]

    draws = in_batches(draw, samples, stage, progress)
    low, high = interval(draws)
    progress(1, f"the bill tells {np.mean(draws):.1%} of the species")
    answer = (
        f"Bill length and depth alone tell the species of {np.mean(draws):.1%} of penguins that the model has not seen "
        f"(95% interval {low:.1%} to {high:.1%})."
    )
    return {"name": "species", "answer": answer, "error": error_of_interval(draws), "samples": samples}


@flow.stage(join="2 of 3")
def draft(
    sexes: Finding | None, islands: Finding | None, species: Finding | None, penguins: Columns, total: int
) -> dict[str, Any]:
    """Write the text from the first two findings; the third analyst's parameter is None."""
    findings = [finding for finding in (sexes, islands, species) if finding is not None]
    measured = f"{len(penguins['species'])} of {total} penguins were measured in full."
    text = "\n\n".join(["# What the Palmer penguins differ in", measured, *(finding["answer"] for finding in findings)])
    return {"text": text, "used": [finding["name"] for finding in findings], "errors": [f["error"] for f in findings]}


@flow.stage
def review(
    draft: dict[str, Any], samples: int, thorough: int, wanted: float, progress: Callable[..., None]
) -> dict[str, float]:
    """Score the draft: 1 less the largest error that comes from sampling. Too low: once back to the plan."""
    confidence = 1 - max(draft["errors"])
    if confidence < wanted and samples < thorough:
        progress(1, f"confidence {confidence:.1%}, {wanted:.1%} is wanted: again with {thorough} samples")
        jump(plan, samples=thorough)
    progress(1, f"confidence {confidence:.1%}")
    return {"confidence": confidence}


sign_off = flow.approval("Publish this report?", name="sign_off", after=review, show="text")


@flow.stage(join="3 of 4")
def latecomer(
    sexes: Finding | None, islands: Finding | None, species: Finding | None, sign_off: Any,
    progress: Callable[..., None],
) -> dict[str, list[Finding]]:  # fmt: skip
    """Gather what has come: all three findings, or two of them and the decision, whichever is first."""
    findings = [finding for finding in (sexes, islands, species) if finding is not None]
    progress(1, "all three came in time" if len(findings) == 3 else "the third came too late")  # noqa: PLR2004 - analysts
    return {"findings": findings}


@flow.stage
def report(
    draft: dict[str, Any], latecomer: dict[str, Any], sign_off: dict[str, Any], confidence: float, path: str,
    progress: Callable[..., None],
) -> dict[str, str]:  # fmt: skip
    """Write the approved text, what came after it, and who approved, to a file: whole or not at all."""
    late = [finding for finding in latecomer["findings"] if finding["name"] not in draft["used"]]
    parts = [draft["text"], *(f"Came after the draft and was not reviewed: {finding['answer']}" for finding in late)]
    user = sign_off["approval"].get("user") or "somebody who gave no name"
    parts.append(f"*Confidence {confidence:.1%}. Approved by {user}.*\n")
    write_whole(Path(path), "\n\n".join(parts))
    progress(1, f"written to {path}")
    return {"path": path}


def in_batches(
    draw: Callable[[np.random.Generator, int], list[float]], samples: int, stage: StageExecution,
    progress: Callable[..., None],
) -> list[float]:  # fmt: skip
    """
    Draw `samples` values in durable steps: a batch that is committed is not drawn again after a crash.

    Ends early when nobody wants the result any more.
    """
    draws: list[float] = []
    for batch in range(BATCHES):
        if stage.cancelled:
            break
        random = np.random.default_rng([zlib.crc32(stage.ref_id.encode()), batch])
        count = samples * (batch + 1) // BATCHES - samples * batch // BATCHES
        draws += stage.step("batch", draw, random, count)
        progress((batch + 1) / BATCHES, f"{len(draws)} of {samples} samples")
    return draws


def interval(draws: list[float]) -> tuple[float, float]:
    """Return the 95% percentile interval."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def error_of_interval(draws: list[float]) -> float:
    """
    Return the standard error of the interval's ends that comes from sampling, as a share of its width.

    That is sqrt(p (1 - p) / n) over the density at the quantile p, for draws that are about normal.
    """
    return 0.68 / math.sqrt(len(draws))


def fitted(x: Any, truth: Any, weights: Any) -> Any:
    """
    Fit a logistic regression by 30 steps of gradient descent.

    `x`: (penguins, features); `truth`: class numbers; `weights`: of the penguins. Returns (features, classes).
    """
    target = np.eye(truth.max() + 1)[truth]
    share = (weights / weights.sum())[:, np.newaxis]
    coefficients = np.zeros((x.shape[1], target.shape[1]))
    for _ in range(30):
        likely = np.exp(x @ coefficients)
        likely /= likely.sum(axis=1, keepdims=True)
        coefficients -= 4 * x.T @ ((likely - target) * share)
    return coefficients


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step: readers see the old text or the new, never half of one."""
    new = path.with_name(f".{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
