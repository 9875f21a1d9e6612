"""What a call of a model costs: by the prices that a budget names, or those of the package genai-prices."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from stabilize_nb.models.calls import USD
from stabilize_nb.models.values import EMPTY

#: Prices are for a million tokens.
_TOKENS: Final = 1_000_000


def cost_of(
    model: str, input_tokens: int, output_tokens: int, prices: Mapping[str, tuple[float, float]] = EMPTY
) -> int | None:
    """Return the cost in 1/1,000,000,000 USD, rounded up; None when nobody knows the price."""
    if model in prices:
        read, written = map(Fraction, prices[model])
        return math.ceil((read * input_tokens + written * output_tokens) * USD / _TOKENS)
    known = _library()
    if known is None:
        return None
    try:
        used = known.Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        return math.ceil(Fraction(known.calc_price(used, model_ref=model).total_price) * USD)
    except (LookupError, ValueError):
        return None


@functools.cache
def _library() -> Any:
    """Return genai-prices, or None where it is not installed."""
    try:
        import genai_prices  # noqa: PLC0415 - an optional dependency, and slow to import
    except ImportError:
        return None
    return genai_prices
