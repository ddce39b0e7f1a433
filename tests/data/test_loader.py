"""Datasets and loaders: what is in a batch, determinism of orders, errors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats

import graphc as gx
from graphc.data import DataLoader, Dataset, Subset, TensorDataset, default_collate, random_split
from graphc.errors import ShapeError, StructureError

X = np.arange(20, dtype=np.float32).reshape(10, 2)
Y = np.arange(10)


class Squares(Dataset):
    """A dataset that knows single samples only."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> Any:
        return np.full(3, index), index**2, float(index) / 2


def orders(loader: DataLoader, epochs: int) -> list[list[int]]:
    return [[int(v) for _, y in loader for v in y] for _ in range(epochs)]


def test_batches_in_order() -> None:
    batches = list(DataLoader(TensorDataset(X, Y), batch_size=4))
    assert [y.tolist() for _, y in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert all(type(x) is np.ndarray and x.dtype == np.float32 and x.flags.c_contiguous for x, _ in batches)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), X)
    batches[0][0][:] = -1
    assert X[0, 0] == 0


@pytest.mark.parametrize(("size", "drop", "lengths"), [(4, True, [4, 4]), (5, True, [5, 5]), (3, False, [3, 3, 3, 1])])
def test_number_and_size_of_batches(size: int, drop: bool, lengths: list[int]) -> None:
    for shuffle in (False, True):
        loader = DataLoader(TensorDataset(X, Y), size, shuffle, drop_last=drop)
        assert len(loader) == len(lengths)
        assert [len(y) for _, y in loader] == lengths
    assert [len(y) for _, y in DataLoader(TensorDataset(X, Y), 100)] == [10]
    assert len(DataLoader(TensorDataset(X, Y))) == 10


def test_epochs_are_functions_of_seed_and_number() -> None:
    dataset = TensorDataset(X, Y)
    first = orders(DataLoader(dataset, 3, shuffle=True, seed=5), 3)
    assert all(sorted(order) == list(range(10)) for order in first)
    assert first[0] != first[1] != first[2] != first[0]
    gx.tensor([1.0])
    np.random.default_rng().random()
    assert orders(DataLoader(dataset, 4, shuffle=True, seed=5), 3) == first
    assert orders(DataLoader(dataset, 3, shuffle=True, seed=6), 3) != first
    loader = DataLoader(dataset, 3, shuffle=True, seed=5)
    loader.set_epoch(2)
    assert orders(loader, 1) == first[2:]
    # An iteration that is not finished counts as an epoch too; two at once do not disturb each other.
    loader = DataLoader(dataset, 3, shuffle=True, seed=5)
    one, two = iter(loader), iter(loader)
    mixed = [next(one)[1].tolist(), next(two)[1].tolist(), next(one)[1].tolist()]
    assert mixed == [first[0][:3], first[1][:3], first[0][3:6]]


def test_every_place_is_equally_likely() -> None:
    loader = DataLoader(TensorDataset(np.arange(6)), 6, shuffle=True)
    table = np.zeros((6, 6))
    for _ in range(3000):
        for place, value in enumerate(next(iter(loader))[0]):
            table[place, value] += 1
    assert stats.chisquare(table.ravel()).pvalue > 1e-4


def test_tensors_stay_tensors() -> None:
    dataset = TensorDataset(gx.tensor(X), Y)
    for x, y in DataLoader(dataset, 4, shuffle=True):
        assert isinstance(x, gx.Tensor) and type(y) is np.ndarray
        np.testing.assert_array_equal(x.numpy(), X[y])
    sample = dataset[3]
    assert sample[0].tolist() == [6, 7] and sample[1] == 3


def test_collating_samples() -> None:
    batches = list(DataLoader(Squares(), 3, shuffle=True, seed=1))
    assert len(batches) == 3
    for row, square, half in batches:
        assert row.shape == (len(square), 3) and row.dtype == np.int64
        np.testing.assert_array_equal(square, row[:, 0] ** 2)
        assert half.dtype == np.float32
        np.testing.assert_array_equal(half, row[:, 0] / 2)


class Sample(NamedTuple):
    image: Any
    label: Any


def test_default_collate() -> None:
    batch = default_collate([{"a": 1, "b": ["x", 2.0]}, {"a": 3, "b": ["y", 4.0]}])
    assert batch["a"].tolist() == [1, 3] and batch["b"][0] == ["x", "y"] and batch["b"][1].tolist() == [2, 4]
    batch = default_collate([Sample(gx.ones(2), True), Sample(gx.zeros(2), False)])
    assert isinstance(batch, Sample) and isinstance(batch.image, gx.Tensor) and batch.image.shape == (2, 2)
    assert batch.label.dtype == np.bool_
    with pytest.raises(ShapeError, match=r"different shapes: \(2,\), \(3,\)"):
        default_collate([np.ones(2), np.ones(3)])
    for samples in ([(1, 2), (1,)], [{"a": 1}, {"b": 1}], [(1,), 1]):
        with pytest.raises(StructureError, match="differ in structure"):
            default_collate(samples)
    with pytest.raises(StructureError, match="a set cannot be put into a batch"):
        default_collate([{1}, {2}])


def test_collate_fn() -> None:
    loader = DataLoader(TensorDataset(X, Y), 4, collate_fn=lambda samples: [int(y) for _, y in samples])
    assert list(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_any_sequence_is_a_dataset() -> None:
    assert [b.tolist() for b in DataLoader([1, 2, 3], 2)] == [[1, 2], [3]]


def test_subset_and_random_split() -> None:
    dataset = TensorDataset(X, Y)
    subset = Subset(dataset, [7, 1, 1])
    assert len(subset) == 3 and subset[0][1] == 7
    assert [y.tolist() for _, y in DataLoader(subset, 2)] == [[7, 1], [1]]
    assert [v.tolist() for v, _, _ in DataLoader(Subset(Squares(), [4]), 2)] == [[[4, 4, 4]]]
    with pytest.raises(IndexError, match="index 10 is not one of 10 samples"):
        Subset(dataset, [10])
    parts = random_split(dataset, [6, 4], seed=3)
    assert [len(p) for p in parts] == [6, 4]
    assert sorted(np.concatenate([p.indices for p in parts]).tolist()) == list(range(10))
    again = random_split(dataset, [0.6, 0.4], seed=3)
    assert [p.indices.tolist() for p in again] == [p.indices.tolist() for p in parts]
    assert random_split(dataset, [6, 4], seed=4)[0].indices.tolist() != parts[0].indices.tolist()
    assert [len(p) for p in random_split(dataset, [1 / 3, 1 / 3, 1 / 3])] == [4, 3, 3]
    assert [len(p) for p in random_split(range(100), [0.29, 0.71])] == [29, 71]
    for lengths in ([5, 4], [0.5, 0.4], [11, -1], [], [1.5, -0.5]):
        with pytest.raises(ValueError, match="neither numbers that sum to 10"):
            random_split(dataset, lengths)


def test_bad_input() -> None:
    dataset = TensorDataset(X, Y)
    with pytest.raises(ValueError, match="the dataset is empty"):
        DataLoader(TensorDataset(np.zeros((0, 2))))
    for size in (0, -1, 2.0, True, "4"):
        with pytest.raises(ValueError, match="batch_size is a number of samples"):
            DataLoader(dataset, size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="drop_last leaves nothing of 10 samples in batches of 11"):
        DataLoader(dataset, 11, drop_last=True)
    with pytest.raises(ValueError, match="a seed is"):
        DataLoader(dataset, 2, seed=-1)
    with pytest.raises(ShapeError) as caught:
        TensorDataset(X, Y[:9])
    assert "float32[10, 2]" in str(caught.value) and "int64[9]" in str(caught.value)
    with pytest.raises(ShapeError):
        TensorDataset(np.float32(1))
    with pytest.raises(StructureError, match="at least one array"):
        TensorDataset()
    for method in (lambda: Dataset()[0], lambda: len(Dataset())):
        with pytest.raises(NotImplementedError, match="Dataset has no"):
            method()
