"""Philox against the published vectors; distributions against SciPy and by their statistics."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import scipy.special

from graphc.dtypes import int64, uint32, uint64
from graphc.errors import DTypeError, ShapeError
from graphc.interp import evaluate
from graphc.ir.graph import Graph, input_value, make
from graphc.ir.types import TensorType
from graphc.ops.distributions import exponential_from_bits, gumbel_from_bits, normal_cdf, normal_quantile, open_uniform
from graphc.ops.random import normal_from_bits, philox, random_bits, uniform_from_bits

# kat_vectors of Random123 (philox4x32, 10 rounds): counter, key, result.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def bits(key: list[int], shape: tuple[int, ...], dtype: object = uint32) -> np.ndarray:
    return random_bits.evaluate([np.array(key, np.uint32)], {"shape": shape, "dtype": dtype})[0]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert tuple(int(w) for w in philox(counter, key)) == expected


def test_layout() -> None:
    """A u32 is one word of the block that its index counts, a u64 two; the shape plays no part."""
    words = [int(w) for w in bits([7, 9], (10,))]
    blocks = [[int(w) for w in philox((k, 0, 0, 0), (7, 9))] for k in range(3)]
    assert words == [word for block in blocks for word in block][:10]
    assert [int(w) for w in bits([7, 9], (2, 5)).ravel()] == words
    assert [int(w) for w in bits([7, 9], (4,), uint64)] == [words[2 * k] | words[2 * k + 1] << 32 for k in range(4)]


def test_upper_half_of_the_counter() -> None:
    assert bits([1, 2], (6,)).tolist() == bits([1, 2, 0, 0], (6,)).tolist()
    assert bits([1, 2, 3, 4], (4,)).tolist() == [int(w) for w in philox((0, 0, 3, 4), (1, 2))]


def test_keys_and_streams_differ() -> None:
    draws = [bits(key, (1000,)) for key in ([0, 0], [1, 0], [0, 1], [0, 0, 1, 0], [0, 0, 0, 1])]
    assert len({tuple(d) for d in draws}) == len(draws)
    correlations = np.corrcoef(np.array(draws, np.float64))
    assert np.abs(correlations - np.eye(len(draws))).max() < 0.15


def test_bad_requests() -> None:
    with pytest.raises(ShapeError, match=r"u32\[2\]"):
        random_bits.infer((TensorType(uint32, (3,)),), {"shape": (2,), "dtype": uint32})
    with pytest.raises(DTypeError, match="u32 or u64"):
        make("uniform_from_bits", [make("iota", shape=(3,), axis=0, dtype=int64).result])


@pytest.mark.parametrize(("dtype", "width"), [(uint32, 24), (uint64, 53)])
def test_uniform(dtype: object, width: int) -> None:
    u = uniform_from_bits.numpy(bits([3, 4], (200_000,), dtype))
    assert u.min() >= 0 and u.max() < 1
    assert np.array_equal(u * 2.0**width, np.floor(u * 2.0**width))
    counts, _ = np.histogram(u, 64, (0, 1))
    assert np.sum((counts - 3125.0) ** 2 / 3125) < 63 + 5 * np.sqrt(126)
    largest = np.array([0, 2 ** (32 if dtype is uint32 else 64) - 1], "u4" if dtype is uint32 else "u8")
    assert uniform_from_bits.numpy(largest).tolist() == [0, 1 - 2.0**-width]


@pytest.mark.parametrize("dtype", [uint32, uint64])
def test_normal_is_the_quantile(dtype: object) -> None:
    """Against mpmath's erfinv, from the middle to both ends."""
    width = 32 if dtype is uint32 else 64
    half = 2 ** (width - 1)
    offsets = [0, 1, 5, half - 1, half - 2, half - 1000, half // 2, half // 3, int(half * 0.85), int(half * 0.8501)]
    offsets += [half - half // 2**k for k in range(2, width - 2)]
    patterns = np.array([*offsets, *(half + k for k in offsets)], "u4" if width == 32 else "u8")
    found = normal_from_bits.numpy(patterns)
    with mpmath.workprec(200):
        for pattern, y in zip(patterns.tolist(), found.tolist(), strict=True):
            distance = (mpmath.mpf(pattern % half) + 0.5) / 2**width
            exact = mpmath.sqrt(2) * mpmath.erfinv(2 * distance) * (-1 if pattern >= half else 1)
            assert abs(y - exact) <= abs(exact) * (1e-6 if width == 32 else 1e-14), pattern


@pytest.mark.parametrize("dtype", [uint32, uint64])
def test_normal_statistics(dtype: object) -> None:
    z = normal_from_bits.numpy(bits([5, 6], (200_000,), dtype)).astype(np.float64)
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    assert abs((z**3).mean()) < 0.03 and abs((z**4).mean() - 3) < 0.08
    # Kolmogorov and Smirnov's distance, at the level of 1e-4.
    distance = np.abs(scipy.special.ndtr(np.sort(z)) - (np.arange(z.size) + 0.5) / z.size).max()
    assert distance < 2.2 / np.sqrt(z.size)


def test_bits_in_a_graph() -> None:
    key = input_value(0, TensorType(uint32, (2,)))
    node = make("normal_from_bits", [make("random_bits", [key], shape=(3, 5), dtype=uint32).result])
    (y,) = evaluate(Graph((key.type,), node.results), [np.array([1, 2], np.uint32)])
    assert y.shape == (3, 5) and y.dtype == np.float32
    assert np.array_equal(y, normal_from_bits.numpy(bits([1, 2], (3, 5))))


@pytest.mark.parametrize("dtype", [uint32, uint64])
def test_exponential_and_gumbel_are_quantiles(dtype: object) -> None:
    """Against mpmath's logarithm, from the middle to both ends."""
    width = 32 if dtype is uint32 else 64
    half = 2 ** (width - 1)
    offsets = [0, 1, 5, half - 1, half - 2, half // 3, *(half // 2**k for k in range(1, width - 2))]
    patterns = np.array([*offsets, *(2 * half - 1 - k for k in offsets)], "u4" if width == 32 else "u8")
    found, turned = exponential_from_bits.numpy(patterns).tolist(), gumbel_from_bits.numpy(patterns).tolist()
    with mpmath.workprec(200):
        for pattern, y, g in zip(patterns.tolist(), found, turned, strict=True):
            exact = -mpmath.log((mpmath.mpf(pattern) + 0.5) / 2**width)
            assert abs(y - exact) <= exact * (1e-6 if width == 32 else 1e-14), pattern
            assert abs(g + mpmath.log(exact)) <= (2e-6 if width == 32 else 1e-14) * max(1, abs(g)), pattern
    assert max(found) < (22.9 if width == 32 else 45.1) and min(found) >= 2.0 ** -(width + 1)


@pytest.mark.parametrize(("dtype", "width"), [(uint32, 23), (uint64, 52)])
def test_open_uniform(dtype: object, width: int) -> None:
    patterns = np.array([0, 2 ** (32 if dtype is uint32 else 64) - 1], "u4" if dtype is uint32 else "u8")
    assert open_uniform.numpy(patterns).tolist() == [0.5 * 2.0**-width, 1 - 0.5 * 2.0**-width]
    u = open_uniform.numpy(bits([3, 4], (1000,), dtype))
    assert np.array_equal(u * 2.0**width % 1, np.full(1000, 0.5))


def test_normal_cdf_and_quantile() -> None:
    with mpmath.workprec(300):
        for x in [*np.linspace(-37.4, 8, 60).tolist(), 0.0, -1e-9, 1e-300]:
            exact = mpmath.erfc(-mpmath.mpf(x) / mpmath.sqrt(2)) / 2
            (p,) = normal_cdf.numpy(np.array([x])).tolist()
            assert abs(p - exact) <= exact * 3e-13, x
            if x < 0:
                (y,) = normal_quantile.numpy(np.array([p])).tolist()
                exact = mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(p) - 1) if p > 1e-60 else mpmath.mpf(x)
                assert abs(y - exact) <= abs(exact) * 1e-14 + (1e-15 if p > 1e-60 else 1e-12), x
    ends = normal_cdf.numpy(np.array([-np.inf, -1e9, np.inf, 0.0, np.nan]))
    assert ends[:3].tolist() == [0, 0, 1] and np.isnan(ends[4]) and abs(ends[3] - 0.5) < 2e-16
    outside = normal_quantile.numpy(np.array([0.0, -0.0, 1.0, 0.5, -0.1, 1.1, np.nan, np.inf]))
    assert np.abs(outside[:4]).tolist() == [np.inf, np.inf, np.inf, 0] and np.isnan(outside[4:]).all()
