"""Functional updates: `x.at[index].set(value)` and its kin give a new tensor and leave x alone. Layer 5.

As in JAX; a repeated index adds (multiplies, ...) repeatedly, and of repeated `set`s the last one wins. An index that is out of
range is an IndexError, in compiled code too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.frontend.elementwise import apply_ufunc, copied, where
from graphc.frontend.indexing import assign_cast, classify, getitem, scattered, setitem
from graphc.frontend.promotion import as_tensor
from graphc.frontend.shaping import reshape
from graphc.frontend.tensor import Tensor

__all__ = ["At", "AtIndex"]


@dataclass(frozen=True, slots=True)
class AtIndex:
    """The elements of a tensor at an index, about to be updated."""

    x: Tensor
    index: Any

    def get(self) -> Tensor:
        """The elements."""
        return getitem(self.x, self.index)

    def set(self, value: Any) -> Tensor:
        """A tensor with the elements replaced."""
        return self._update("scatter_set", lambda old, new: new, value)

    def add(self, value: Any) -> Tensor:
        """A tensor with the value added to the elements."""
        return self._update("scatter_add", lambda old, new: apply_ufunc("add", old, new), value)

    def subtract(self, value: Any) -> Tensor:
        """A tensor with the value subtracted from the elements."""
        return self.add(apply_ufunc("negative", value))

    def multiply(self, value: Any) -> Tensor:
        """A tensor with the elements multiplied by the value."""
        return self._update("scatter_multiply", lambda old, new: apply_ufunc("multiply", old, new), value)

    def divide(self, value: Any) -> Tensor:
        """A tensor with the elements divided by the value."""
        return self.multiply(apply_ufunc("divide", 1.0, value))

    def min(self, value: Any) -> Tensor:
        """A tensor with the elements lowered to the value where that is less."""
        return self._update("scatter_min", lambda old, new: apply_ufunc("minimum", old, new), value)

    def max(self, value: Any) -> Tensor:
        """A tensor with the elements raised to the value where that is greater."""
        return self._update("scatter_max", lambda old, new: apply_ufunc("maximum", old, new), value)

    def _update(self, name: str, combine: Callable[[Tensor, Any], Any], value: Any) -> Tensor:
        if _is_mask(self.index):
            mask = as_tensor(self.index)
            mask = reshape(mask, (*mask.shape, *(1,) * (self.x.ndim - mask.ndim)))
            return where(mask, assign_cast(self.x, combine(self.x, value)), self.x)
        items, arrays = classify(self.x, self.index)
        if not arrays:
            result = copied(self.x)
            setitem(result, self.index, combine(getitem(self.x, self.index), value))
            return result
        part, new = scattered(self.x, items, value, name)
        if part is self.x:
            return new
        result = copied(self.x)
        setitem(result, sliced_only(items), new)
        return result


def sliced_only(items: list[Any]) -> tuple[Any, ...]:
    """The slices of an index, for what has been sliced before it was indexed by arrays."""
    return tuple(i if i is None or isinstance(i, slice) else slice(None) for i in items)


def _is_mask(index: Any) -> bool:
    return isinstance(index, (Tensor, np.ndarray)) and index.dtype == np.bool_


@dataclass(frozen=True, slots=True)
class At:
    """`x.at`: to be indexed."""

    x: Tensor

    def __getitem__(self, index: Any) -> AtIndex:
        return AtIndex(self.x, index)
