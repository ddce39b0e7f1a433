"""einsum, products and counts beyond the table of NumPy functions: faults, gradients, given sizes."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.errors import ShapeError, UnsupportedError

RNG = np.random.default_rng(8)
both = pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])


@both
def test_einsum_with_lists_of_integers(mode):
    x, y = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 5))
    np.testing.assert_allclose(mode(lambda x, y: gx.einsum(x, [0, 1], y, [1, 2], [2, 0]))(x, y), (x @ y).T)
    np.testing.assert_allclose(mode(lambda x, y: gx.einsum(x, [0, 1], y, [1, 2]))(x, y), x @ y)


@both
def test_einsum_gradient(mode):
    x, y, z = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 5)), RNG.standard_normal((3, 5))
    found = mode(lambda x, y, z: gx.grad(lambda x: gx.einsum("ij,jk,ik->", x, y, z))(x))(x, y, z)
    np.testing.assert_allclose(found, z @ y.T, rtol=1e-12)


def test_contraction_order_is_cheap():
    """A chain with a vector at its end is products of matrices with vectors."""
    x, v = np.ones((64, 64)), np.ones(64)
    with gx.count_ops() as count:
        gx.einsum("ij,jk,kl,l->i", gx.tensor(x), gx.tensor(x), gx.tensor(x), gx.tensor(v))
    assert "dot" in str(count)
    graph = gx.compile(lambda x, v: gx.einsum("ij,jk,kl,l->i", x, x, x, v)).inspect(x, v).graph
    assert "f64[64, 64] = dot" not in str(graph)


@pytest.mark.parametrize(
    ("text", "shapes", "why"),
    [
        ("ij,jk->ik", [(2, 3)], "names 2 operands"),
        ("ij->k", [(2, 3)], "is in no operand"),
        ("ij->ii", [(2, 3)], "repeated in the output"),
        ("ij,jk", [(2, 3), (4, 5)], "sizes 3 and 4"),
        ("ijk", [(2, 3)], "does not fit"),
        ("i?", [(2, 3)], "only letters"),
        ("...i...", [(2, 3)], "more than one ellipsis"),
        ("ii", [(2, 3)], "sizes 2 and 3"),
        ("i->i->i", [(2,)], "only letters"),
    ],
)
@both
def test_einsum_faults(mode, text, shapes, why):
    arrays = [np.ones(s) for s in shapes]
    with pytest.raises(ShapeError, match=why) as caught:
        mode(lambda *xs: gx.einsum(text, *xs))(*arrays)
    assert "test_linalg.py" in str(caught.value)


@both
def test_bincount_and_histogram(mode):
    n = RNG.integers(0, 6, 50)
    w = RNG.standard_normal(50)
    np.testing.assert_array_equal(mode(lambda n: gx.bincount(n, length=8))(n), np.bincount(n, minlength=8))
    np.testing.assert_allclose(mode(lambda n, w: gx.bincount(n, w, length=6))(n, w), np.bincount(n, w, minlength=6))
    for arguments in (
        {},
        {"bins": 4},
        {"bins": 7, "range": (-1.0, 1.0)},
        {"bins": [-1.0, 0.0, 0.5]},
        {"density": True},
    ):
        found = mode(lambda w, a=arguments: np.histogram(gx.asarray(w), **a))(w)
        for a, b in zip(found, np.histogram(w, **arguments), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-15)
    counts, edges = mode(lambda n: gx.histogram(n, 5))(n)
    np.testing.assert_array_equal(counts, np.histogram(n, 5)[0])
    np.testing.assert_allclose(edges, np.histogram(n, 5)[1])


def test_bincount_needs_its_length_when_compiled():
    n = np.array([1, 2, 2])
    np.testing.assert_array_equal(np.bincount(gx.tensor(n)), [0, 1, 2])
    with pytest.raises(UnsupportedError, match="length=n"):
        gx.compile(np.bincount)(n)


@both
def test_one_hot(mode):
    labels = np.array([[0, 2], [3, -1]])
    expected = (labels[..., None] == np.arange(3)).astype(np.float32)
    np.testing.assert_array_equal(mode(lambda x: gx.one_hot(x, 3))(labels), expected)
    np.testing.assert_array_equal(
        mode(lambda x: gx.one_hot(x, 3, axis=0, dtype=np.int64))(labels), expected.transpose(2, 0, 1)
    )


def test_frequencies():
    for n in (1, 7, 8):
        np.testing.assert_allclose(gx.fft.fftfreq(n, d=0.5), np.fft.fftfreq(n, 0.5), rtol=1e-6)
        np.testing.assert_allclose(gx.fft.rfftfreq(n, d=0.5), np.fft.rfftfreq(n, 0.5), rtol=1e-6)
    assert gx.fft.fftfreq(4, dtype=gx.float64).dtype == np.float64
