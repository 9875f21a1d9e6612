"""Counting primes, as a flow: a stage for each span of numbers, which a cluster works at."""

from __future__ import annotations

from math import isqrt
from typing import Any

from stabilize_nb import Flow

flow = Flow("primes")


@flow.stage
def cut(parts: int, width: int) -> dict[str, Any]:
    """Cut the numbers into spans."""
    return {"spans": [[part * width, (part + 1) * width] for part in range(parts)]}


@flow.stage(each="spans", queue="cluster")
def count(span: list[int]) -> int:
    """Count the primes of a span, the slow way."""
    first, end = span
    return sum(is_prime(number) for number in range(first, end))


@flow.stage
def total(count: list[int]) -> int:
    """Add them up."""
    return sum(count)


def is_prime(number: int) -> bool:
    """Whether nothing divides a number."""
    return number > 1 and all(number % each for each in range(2, isqrt(number) + 1))


def sieved(end: int) -> int:
    """Count the primes below a number in another way."""
    left = bytearray([1]) * end
    left[:2] = b"\0\0"
    for number in range(2, isqrt(end) + 1):
        if left[number]:
            left[number * number :: number] = bytes(len(range(number * number, end, number)))
    return sum(left)
