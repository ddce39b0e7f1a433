"""Writes by index: in place and functional, dynamically and compiled, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.errors import BoundsError, DTypeError, ShapeError

RNG = np.random.default_rng(4)
A = RNG.standard_normal((3, 4, 5)).astype(np.float32)
both = pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])

#: Indices with arrays; the second and later ones repeat elements.
INDICES = [
    np.array([2, 0]),
    np.array([[0, -1], [1, 0]]),
    (np.array([0, 2]), np.array([1, 3])),
    (slice(None), np.array([3, 0, 3])),
    (np.array([0, 2, 0]), slice(1, 3)),
    (np.array([0, 2]), slice(None), np.array([1, 4])),
    (slice(1, None), slice(None, None, -1), np.array([1, 1, 0])),
    (np.array([[0], [1]]), np.array([1, 2, 3])),
    (slice(None), np.array([0, 1]), 2),
    (1, np.array([0, 1])),
    (Ellipsis, np.array([0, -1])),
    (np.array([1]), None, slice(None)),
    [0, 2],
    np.zeros(0, np.int64),
]


def values_for(index):
    shape = A[index].shape
    return [7.5, RNG.standard_normal(shape).astype(np.float32), RNG.standard_normal(shape[-1:]).astype(np.float32)]


CASES = [(index, value) for index in INDICES for value in values_for(index)]


@both
def test_setitem_by_arrays(mode):
    def write(tensors, values):
        for tensor, (index, _), value in zip(tensors, CASES, values, strict=True):
            tensor[index] = value

    tensors = [gx.tensor(A) for _ in CASES]
    mode(write)(tensors, [v for _, v in CASES])
    for tensor, (index, value) in zip(tensors, CASES, strict=True):
        expected = A.copy()
        expected[index] = value
        np.testing.assert_array_equal(tensor, expected, err_msg=repr(index))


@both
def test_augmented_assignment_by_arrays(mode):
    def write(x, i):
        x[i] += 1
        x[:, i] *= 2
        return x * 1

    x = gx.tensor(A)
    mode(write)(x, np.array([0, 2, 0]))
    expected = A.copy()
    expected[[0, 2, 0]] += 1
    expected[:, [0, 2, 0]] *= 2
    np.testing.assert_array_equal(x, expected)


@both
@pytest.mark.parametrize("name", ["set", "add", "multiply", "min", "max", "subtract"])
def test_functional_updates(mode, name):
    ufuncs = {"add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum, "subtract": np.subtract}
    basic = [0, slice(1, 3), (slice(None), 2), (Ellipsis, slice(None, None, -2)), (1, 2, 3)]
    cases = [*CASES, *((index, np.float32(0.25)) for index in basic), (A > 0, 0.5)]
    source = gx.tensor(A)
    found = mode(lambda x, values: [getattr(x.at[i], name)(v) for (i, _), v in zip(cases, values, strict=True)])(
        source, [v for _, v in cases]
    )
    for y, (index, value) in zip(found, cases, strict=True):
        expected = A.copy()
        if name == "set":
            expected[index] = value
        else:
            ufuncs[name].at(expected, index if not isinstance(index, list) else np.array(index), value)
        np.testing.assert_allclose(y, expected, rtol=1e-6, err_msg=repr(index))
    np.testing.assert_array_equal(source, A)


@both
def test_put_along_axis(mode):
    places = RNG.integers(-4, 4, (3, 2, 5))
    values = RNG.standard_normal((3, 2, 5)).astype(np.float32)
    x = gx.tensor(A)

    def write(x, i, v):
        np.put_along_axis(x, i, v, axis=1)

    mode(write)(x, places, values)
    expected = A.copy()
    np.put_along_axis(expected, places, values, axis=1)
    np.testing.assert_array_equal(x, expected)


@both
def test_ufunc_at(mode):
    x = gx.tensor(A)

    def write(x, i):
        np.add.at(x, i, 1.0)
        np.maximum.at(x, (slice(None), i), 0.0)

    mode(write)(x, np.array([1, 1, -1]))
    expected = A.copy()
    np.add.at(expected, np.array([1, 1, -1]), 1.0)
    np.maximum.at(expected, (slice(None), np.array([1, 1, -1])), 0.0)
    np.testing.assert_allclose(x, expected, rtol=1e-6)


@both
def test_faults(mode):
    def write(x, i):
        x[i] = 1.0

    x = gx.tensor(A)
    with pytest.raises(BoundsError, match="index 3 is out of bounds"):
        mode(write)(x, np.array([0, 3]))
    np.testing.assert_array_equal(x, A)
    with pytest.raises(BoundsError, match="index -5"):
        mode(lambda x, i: x.at[:, i].add(1))(x, np.array([-5]))
    with pytest.raises(DTypeError, match="cannot be written"):
        mode(write)(gx.tensor(np.arange(3)), np.array([0]))
    with pytest.raises(ShapeError, match="does not broadcast"):
        mode(lambda x, i: x.at[i].set(np.zeros((2, 3, 5))))(x, np.array([0, 1]))


@both
def test_gradients_of_updates(mode):
    x = RNG.standard_normal(6)
    v = np.array([1.0, 2.0, 3.0])
    i = np.array([4, 1, 4])
    w = np.arange(1.0, 7.0)
    by_x, by_v = mode(lambda x, v, i: gx.grad(lambda x, v: (x.at[i].set(v) * w).sum(), argnums=(0, 1))(x, v))(x, v, i)
    np.testing.assert_array_equal(by_x, [1, 0, 3, 4, 0, 6])
    np.testing.assert_array_equal(by_v, [0, 2, 5])
    by_x, by_v = mode(lambda x, v, i: gx.grad(lambda x, v: (x.at[i].max(v) * w).sum(), argnums=(0, 1))(x, v))(x, v, i)
    expected = x.copy()
    np.maximum.at(expected, i, v)
    np.testing.assert_array_equal(by_x, w * (x == expected))
    np.testing.assert_array_equal(by_v, w[i] * (v == expected[i]))
