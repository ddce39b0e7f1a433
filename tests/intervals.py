"""What is known of a value in a graph, and the tools that rules over intervals are made of.

A rule gets a node, the shadows of its operands and the twin's results, and gives the ends of an enclosure for each result: of
floats the least and greatest value that a faithful evaluation may give, of other dtypes ends that are equal where the element
is known (`marked`). `tests/shadow.py` says what that means, `tests/enclosures.py` and `tests/arrayenclosures.py` hold the
rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from graphc import dtypes
from graphc.ir.graph import Node

__all__ = [
    "INF",
    "Array",
    "Interval",
    "Rule",
    "Shadow",
    "apply",
    "epsilon",
    "holds",
    "is_float",
    "marked",
    "middle",
    "widened",
]

Array = np.ndarray[Any, Any]
Interval = tuple[Array, Array]
INF = np.inf


@dataclass(frozen=True, slots=True)
class Shadow:
    """All that is known of a value; see `tests/shadow.py`."""

    value: Array
    bits: bool
    lo: Array
    hi: Array

    @property
    def is_float(self) -> bool:
        return is_float(self.value)

    @property
    def known(self) -> Array:
        """Where all evaluations agree exactly. (For dtypes other than floats, lo and hi only say this.)"""
        return np.asarray(self.lo == self.hi)

    @property
    def bounded(self) -> Array:
        """Where the element is enclosed at all."""
        return np.asarray(np.isfinite(self.lo) & np.isfinite(self.hi)) if self.is_float else self.known


Rule = Callable[[Node, Sequence[Shadow], Array], Interval]


def is_float(x: Array) -> bool:
    """Whether an array holds floats, 16-bit ones included."""
    return dtypes.from_numpy(x.dtype).is_float


def epsilon(value: Array) -> float:
    """The relative distance of neighbouring floats, as compared in float64: at least a few of its own."""
    return max(float(ml_dtypes.finfo(value.dtype).eps), 4 * float(np.finfo(np.float64).eps))


def marked(known: Array) -> Interval:
    """Whether the element is known, as ends that are equal where it is."""
    return np.zeros(known.shape), np.where(known, 0.0, 1.0)


def widened(lo: Array, hi: Array, dtype: Any, ulps: float) -> Interval:
    """An interval's ends moved outwards: by ulps of the dtype, and by what float64 arithmetic on the ends may have lost."""
    if ulps == 0:
        return lo, hi

    def slack(end: Array) -> Array:
        size = np.minimum(np.abs(end), float(ml_dtypes.finfo(dtype).max))
        return np.asarray(ulps * np.spacing(size.astype(dtype)).astype(np.float64) + 8 * np.spacing(size))

    return lo - slack(lo), hi + slack(hi)


def apply(node: Node, *operands: Array) -> Array:
    """The op's NumPy definition in float64, of its first result."""
    return np.asarray(node.op.evaluate([np.asarray(x, np.float64) for x in operands], node.attrs)[0], np.float64)


def holds(x: Shadow, number: float) -> Array:
    """Where the interval has a number in it."""
    return np.asarray((x.lo <= number) & (number <= x.hi))


def middle(x: Shadow) -> tuple[Array, Array]:
    """Middle and radius; the radius covers the middle's rounding."""
    middle = np.where(x.bounded, (x.lo + x.hi) / 2, 0.0)
    radius = np.where(x.bounded, (x.hi - x.lo) / 2 + np.where(x.known, 0.0, np.spacing(np.abs(middle))), INF)
    return middle, radius
