"""Datasets: things with a length and items. Layer 6. Names and meanings are PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphc.errors import BoundsError, MissingMethodError, OptionError, ShapeError, StructureError, message
from graphc.frontend.random import permutation_array
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor

__all__ = ["Dataset", "Subset", "TensorDataset", "random_split"]


class Dataset:
    """Base class: `dataset[i]` is a sample, `len(dataset)` their number.

    A subclass may define `batch(indices)` to give many samples at once; a loader then does not collate.
    """

    def __getitem__(self, index: int) -> Any:
        raise self._lacks("__getitem__(self, index)")

    def __len__(self) -> int:
        raise self._lacks("__len__(self)")

    def _lacks(self, method: str) -> MissingMethodError:
        name = type(self).__name__
        return MissingMethodError(
            message(
                f"the dataset {name} has no {method.partition('(')[0]}",
                location=user_location(),
                hint=f"Define `def {method}` in class {name}.",
            )
        )


class TensorDataset(Dataset):
    """Arrays or Tensors of one length; a sample is the tuple of their items.

    Raises
    ------
    ShapeError
        If the lengths differ, or an array has rank 0.

    >>> import numpy as np
    >>> from graphc.data import TensorDataset
    >>> dataset = TensorDataset(np.arange(6).reshape(3, 2), np.array([0, 1, 0]))
    >>> len(dataset), dataset[1]
    (3, (array([2, 3]), np.int64(1)))
    """

    def __init__(self, *arrays: Any) -> None:
        if not arrays:
            raise StructureError(
                message(
                    "a TensorDataset needs at least one array",
                    location=user_location(),
                    hint="For example TensorDataset(images, labels).",
                )
            )
        self.arrays = tuple(a if isinstance(a, (Tensor, np.ndarray)) else np.asarray(a) for a in arrays)
        shapes = [tuple(a.shape) for a in self.arrays]
        if any(not shape for shape in shapes) or len({shape[0] for shape in shapes}) > 1:
            raise ShapeError(
                message(
                    "arrays of a TensorDataset must have the same length (first axis)",
                    operands=[(f"array {i}", f"{a.dtype}{list(a.shape)}") for i, a in enumerate(self.arrays)],
                    location=user_location(),
                    hint="The first axis counts the samples.",
                )
            )

    def __len__(self) -> int:
        return int(self.arrays[0].shape[0])

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        if isinstance(index, (int, np.integer)) and not -len(self) <= index < len(self):
            raise _outside(int(index), len(self))
        return tuple(a[index] for a in self.arrays)  # type: ignore[index]

    def batch(self, indices: np.ndarray[Any, Any]) -> tuple[Any, ...]:
        """The samples at `indices`, copied."""
        return tuple(Tensor(a.numpy()[indices]) if isinstance(a, Tensor) else a[indices] for a in self.arrays)


def _outside(index: int, count: int) -> BoundsError:
    return BoundsError(
        message(
            f"index {index} is not one of {count} samples",
            location=user_location(),
            hint=f"Samples are numbered from 0 to {count - 1}." if count else "The dataset is empty.",
        )
    )


class Subset(Dataset):
    """The samples of a dataset at given indices."""

    def __init__(self, dataset: Any, indices: Any) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, dtype=np.int64).reshape(-1)
        wrong = self.indices[(self.indices < 0) | (self.indices >= len(dataset))]
        if wrong.size:
            raise _outside(int(wrong[0]), len(dataset))
        if hasattr(dataset, "batch"):
            self.batch = lambda chosen: dataset.batch(self.indices[chosen])

    def __len__(self) -> int:
        return int(self.indices.size)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]


def random_split(dataset: Any, lengths: Sequence[float], seed: int = 0) -> list[Subset]:
    """Split a dataset at random into parts that do not overlap.

    Parameters
    ----------
    lengths
        Numbers of samples that sum to the dataset's length, or fractions that sum to 1 (rounded down; what is left goes to
        the first parts, one each).
    seed
        The split is a function of it and of the lengths.

    Raises
    ------
    ValueError
        If the lengths do not sum up.

    >>> import numpy as np
    >>> from graphc.data import TensorDataset, random_split
    >>> [len(part) for part in random_split(TensorDataset(np.arange(10)), [0.8, 0.2])]
    [8, 2]
    """
    total = len(dataset)
    counts = _counts(total, lengths)
    order = permutation_array(total, seed, 0)
    bounds = np.cumsum([0, *counts])
    return [Subset(dataset, order[a:b]) for a, b in pairwise(bounds)]


def _counts(total: int, lengths: Sequence[float]) -> list[int]:
    if (
        all(isinstance(n, (int, np.integer)) for n in lengths)
        and sum(lengths) == total
        and min(lengths, default=0) >= 0
    ):
        return [int(n) for n in lengths]
    fractions = any(isinstance(n, (float, np.floating)) for n in lengths)
    if not fractions or min(lengths) < 0 or abs(sum(lengths) - 1.0) > 1e-6:
        raise OptionError(
            message(
                f"lengths {list(lengths)} are neither numbers that sum to {total} nor fractions that sum to 1",
                location=user_location(),
                hint="For example [0.8, 0.2].",
            )
        )
    # The small number keeps 0.29 * 100 from becoming 28.
    counts = [int(np.floor(total * n + 1e-6)) for n in lengths]
    for i in range(total - sum(counts)):
        counts[i % len(counts)] += 1
    return counts
