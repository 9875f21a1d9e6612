"""Calls of models as steps that are charged to a budget: what one can take at most, and what it took by its answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from stabilize_nb.errors import PermanentError
from stabilize_nb.llm.prices import cost_of
from stabilize_nb.models.calls import Call, Terms, Usage


def model_call(model: str, asked: Any, make: Callable[[Terms | None], Any]) -> Call:
    """Return the call of a model; `asked`: all that is sent to it, as JSON data. Its answer has `usage` as a server."""

    def reserve(terms: Terms) -> Usage:
        return _usage(model, _most_tokens(asked), terms.output_tokens, terms)

    def measure(terms: Terms | None, answer: Mapping[str, Any]) -> Usage:
        told = answer.get("usage") or {}
        counts = [told.get(name) for name in ("prompt_tokens", "completion_tokens")]
        if not any(isinstance(count, int) for count in counts):
            return reserve(terms) if terms is not None else Usage()  # the server does not say: the most it can be
        read, written = (count if isinstance(count, int) else 0 for count in counts)
        return _usage(model, read, written, terms)

    return Call(kind="model", name="model", target=model, make=make, reserve=reserve, measure=measure)


def _usage(model: str, read: int, written: int, terms: Terms | None) -> Usage:
    cost = cost_of(model, read, written) if terms is None else cost_of(model, read, written, terms.prices)
    if cost is None and terms is not None and terms.priced:
        raise PermanentError(
            f"the budget limits money, and nobody knows the price of model {model!r}: say it as "
            f"Budget(..., prices={{{model!r}: (USD for a million tokens read, and written)}})"
        )
    return Usage(input_tokens=read, output_tokens=written, cost=cost)


def _most_tokens(asked: Any) -> int:
    """Return how many tokens a text can be at most: no tokenizer makes more than one of a byte."""
    return len(json.dumps(asked, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))
