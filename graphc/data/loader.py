"""DataLoader: batches of a dataset, epoch after epoch. Layer 6.

Invariant: the batches of an epoch are a function of the dataset, the options, the seed and the epoch's number, and of
nothing else; no other use of random numbers moves them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.errors import OptionError, ShapeError, StructureError, message
from graphc.frontend.random import permutation_array, seed_words
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, native_array

__all__ = ["DataLoader", "default_collate"]


def default_collate(samples: Sequence[Any]) -> Any:
    """Samples as one batch: arrays, Tensors and numbers are stacked along a new first axis; tuples, lists, named tuples
    and dicts of them are taken apart; strings become a list. Python floats become the default dtype.

    Raises
    ------
    ShapeError
        If items of one place have different shapes.
    StructureError
        If samples differ in structure, or hold something else.
    """
    first = samples[0]
    if isinstance(first, Mapping):
        _check_equal([sorted(map(str, s)) if isinstance(s, Mapping) else None for s in samples])
        return {key: default_collate([s[key] for s in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        _check_equal([len(s) if isinstance(s, (tuple, list)) else None for s in samples])
        columns = [default_collate(column) for column in zip(*samples, strict=True)]
        if hasattr(first, "_fields"):
            return type(first)(*columns)
        return type(first)(columns)
    if isinstance(first, (str, bytes)):
        return list(samples)
    if isinstance(first, (Tensor, np.ndarray, np.generic, bool, int, float)):
        return _stack(samples)
    raise StructureError(
        message(
            f"samples that hold a {type(first).__name__} cannot be put into a batch",
            location=user_location(),
            hint="Give the loader a collate_fn, which takes a list of samples.",
        )
    )


def _check_equal(structures: list[Any]) -> None:
    if any(s != structures[0] for s in structures):
        raise StructureError(
            message(
                "samples of a batch differ in structure (lengths, keys)",
                location=user_location(),
                hint="Give the loader a collate_fn, which takes a list of samples.",
            )
        )


def _stack(items: Sequence[Any]) -> Any:
    shapes = {np.shape(x.numpy()) if isinstance(x, Tensor) else np.shape(x) for x in items}
    if len(shapes) > 1:
        raise ShapeError(
            message(
                f"samples of a batch have different shapes: {', '.join(map(str, sorted(shapes)))}",
                location=user_location(),
                hint="Pad them in the dataset, or give the loader a collate_fn.",
            )
        )
    if isinstance(items[0], Tensor):
        return Tensor(np.stack([x.numpy() for x in items]))
    if isinstance(items[0], (np.ndarray, np.generic)):
        return np.stack(items)
    return native_array(list(items))


class DataLoader:
    """Batches of a dataset; iterate over it once for each epoch.

    Parameters
    ----------
    dataset
        Anything with `__len__` and `__getitem__`. Its `batch(indices)`, if it has one, is called instead of collating.
    batch_size
        Samples in a batch; the last batch of an epoch may be smaller.
    shuffle
        Whether each epoch has an order of its own, made from the seed and the epoch's number.
    seed
        An integer from 0 to 2**64 - 1.
    drop_last
        Whether a last batch that is smaller is left out.
    collate_fn
        From a list of samples to a batch.

    Raises
    ------
    ValueError
        If the dataset is empty, the batch size is not positive, or `drop_last` would leave nothing.

    >>> import numpy as np
    >>> from graphc.data import DataLoader, TensorDataset
    >>> loader = DataLoader(TensorDataset(np.arange(5)), batch_size=2)
    >>> [x.tolist() for (x,) in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        seed: int = 0,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        if not isinstance(batch_size, (int, np.integer)) or isinstance(batch_size, bool) or batch_size < 1:
            raise OptionError(
                message(
                    f"batch_size is a number of samples, not {batch_size!r}",
                    location=user_location(),
                    hint="Give a positive integer.",
                )
            )
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise StructureError(
                message(
                    f"a {type(dataset).__name__} is no dataset: it has no __len__ and __getitem__",
                    location=user_location(),
                    hint="Pass a list, an array, TensorDataset(images, labels), or a Dataset of your own.",
                )
            )
        if not len(dataset):
            raise OptionError(
                message("the dataset is empty", location=user_location(), hint="A loader needs at least one sample.")
            )
        if drop_last and len(dataset) < batch_size:
            raise OptionError(
                message(
                    f"drop_last leaves nothing of {len(dataset)} samples in batches of {batch_size}",
                    location=user_location(),
                    hint="Choose a smaller batch_size, or keep the last batch.",
                )
            )
        seed_words(seed)
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.seed = int(seed)
        self.drop_last = drop_last
        self.collate_fn = collate_fn
        self.epoch = 0

    def __len__(self) -> int:
        count, rest = divmod(len(self.dataset), self.batch_size)
        return count + (1 if rest and not self.drop_last else 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the number of the next epoch, for example after a restart; each iteration counts it up."""
        self.epoch = int(epoch)

    def __iter__(self) -> Iterator[Any]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._batches(epoch)

    def _batches(self, epoch: int) -> Iterator[Any]:
        count = len(self.dataset)
        order = permutation_array(count, self.seed, epoch) if self.shuffle else np.arange(count)
        for number in range(len(self)):
            yield self._batch(order[number * self.batch_size : (number + 1) * self.batch_size])

    def _batch(self, indices: np.ndarray[Any, Any]) -> Any:
        whole = getattr(self.dataset, "batch", None)
        if self.collate_fn is None and whole is not None:
            return whole(indices)
        samples = [self.dataset[int(i)] for i in indices]
        return default_collate(samples) if self.collate_fn is None else self.collate_fn(samples)
