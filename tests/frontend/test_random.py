"""Random numbers: known answers, independence of mode, moments and distributions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

import graphc as gx
from graphc.errors import DTypeError, TracerConversionError
from graphc.frontend import random
from graphc.frontend.random import Generator


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    random.manual_seed(0)


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 in plain integers, from the paper."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def test_known_answer() -> None:
    # kat_vectors of Random123: philox4x32 10, counter 0, key 0.
    words = Generator(0).bits(4).numpy()
    assert [f"{w:08x}" for w in words.tolist()] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def test_bits_are_philox_of_key_stream_and_element() -> None:
    seed = 0x0123456789ABCDEF
    generator = Generator(seed)
    generator.bits(3)
    words = generator.bits((2, 5)).numpy()
    expected = [w for block in range(3) for w in philox([block, 0, 1, 0], [0x89ABCDEF, 0x01234567])][:10]
    assert words.ravel().tolist() == expected
    wide = generator.bits(3, np.uint64).numpy()
    w = [w for block in range(2) for w in philox([block, 0, 2, 0], [0x89ABCDEF, 0x01234567])]
    assert wide.tolist() == [w[0] | w[1] << 32, w[2] | w[3] << 32, w[4] | w[5] << 32]


def test_stream_number_carries_into_its_upper_word() -> None:
    generator = Generator(1)
    generator.state.assign(gx.tensor(np.array([1, 0, 0xFFFFFFFE, 6], np.uint32)))
    generator.bits(1)
    assert generator.state.tolist() == [1, 0, 0xFFFFFFFF, 6]
    generator.bits(1)
    assert generator.state.tolist() == [1, 0, 0, 7]
    generator.bits(1)
    assert generator.state.tolist() == [1, 0, 1, 7]


def test_draws_do_not_depend_on_shape() -> None:
    a = Generator(5).normal((7, 3)).numpy().ravel()
    b = Generator(5).normal((1000,)).numpy()[:21]
    assert a.tolist() == b.tolist()


def test_seeds() -> None:
    assert Generator(7).uniform((5,)).tolist() == Generator(7).uniform((5,)).tolist()
    assert Generator(7).uniform((5,)).tolist() != Generator(8).uniform((5,)).tolist()
    assert Generator(2**32).uniform((5,)).tolist() != Generator(0).uniform((5,)).tolist()
    for seed in (-1, 2**64, 1.5, "a"):
        with pytest.raises(ValueError, match="a seed is an integer"):
            Generator(seed)  # type: ignore[arg-type]


def test_manual_seed_starts_the_default_generator_anew() -> None:
    random.manual_seed(3)
    first = [random.rand(2, 2).tolist(), random.randn(3).tolist(), random.randint(10, shape=4).tolist()]
    random.manual_seed(3)
    assert first == [random.rand(2, 2).tolist(), random.randn(3).tolist(), random.randint(10, shape=4).tolist()]
    assert random.rand(2).tolist() != random.rand(2).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_moments_and_distribution(dtype: type) -> None:
    x = Generator(11).uniform((200_000,), dtype=dtype).numpy()
    assert x.dtype == dtype
    assert x.min() >= 0 and x.max() < 1
    assert abs(x.mean() - 0.5) < 5 * np.sqrt(1 / 12 / x.size)
    assert abs(x.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / x.size)
    counts = np.bincount((x * 64).astype(int), minlength=64)
    assert 1e-4 < stats.chisquare(counts).pvalue < 1 - 1e-4
    y = Generator(11).uniform((1000,), -3.0, 5.0, dtype=dtype).numpy()
    unit = x[:1000]
    assert y.tolist() == (unit * dtype(8) + dtype(-3)).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_moments_and_distribution(dtype: type) -> None:
    x = Generator(12).normal((200_000,), dtype=dtype).numpy()
    assert x.dtype == dtype
    n = x.size
    assert abs(x.mean()) < 5 / np.sqrt(n)
    assert abs(x.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((x.astype(np.float64) ** 3).mean()) < 5 * np.sqrt(15 / n)
    assert abs((x.astype(np.float64) ** 4).mean() - 3) < 5 * np.sqrt(96 / n)
    assert stats.kstest(x, "norm").pvalue > 1e-4
    y = Generator(12).normal((100,), 2.0, 0.5, dtype=dtype).numpy()
    assert y.tolist() == (x[:100] * dtype(0.5) + dtype(2)).tolist()


def test_integers_cover_their_range_evenly() -> None:
    x = Generator(13).integers(-3, 4, (70_000,)).numpy()
    assert x.dtype == np.int64
    values, counts = np.unique(x, return_counts=True)
    assert values.tolist() == list(range(-3, 4))
    assert 1e-4 < stats.chisquare(counts).pvalue < 1 - 1e-4


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 2**32, np.uint32),
        (-(2**31), 2**31, np.int32),
        (-(2**63), 2**63, np.int64),
        (0, 2**64, np.uint64),
        (5, 6, np.int32),
    ],
)
def test_integers_at_the_ends_of_dtypes(low: int, high: int, dtype: type) -> None:
    x = Generator(1).integers(low, high, (1000,), dtype).numpy()
    assert x.dtype == dtype
    assert low <= int(x.min()) and int(x.max()) < high
    if high - low > 2:
        middle = (low + high) // 2
        share = np.mean([int(v) < middle for v in x])
        assert 0.42 < share < 0.58


def test_integers_refuse_bad_ranges() -> None:
    for low, high, dtype in [(3, 3, np.int64), (0, 2**31 + 1, np.int32), (-1, 5, np.uint32)]:
        with pytest.raises(ValueError, match="low < high"):
            Generator(0).integers(low, high, (2,), dtype)
    with pytest.raises(DTypeError, match="integers"):
        Generator(0).integers(0, 3, (2,), np.float32)


def test_bernoulli() -> None:
    x = Generator(14).bernoulli(0.3, (100_000,)).numpy()
    assert x.dtype == np.bool_
    assert abs(x.mean() - 0.3) < 5 * np.sqrt(0.21 / x.size)
    assert not Generator(0).bernoulli(0.0, (10_000,)).numpy().any()
    assert Generator(0).bernoulli(1.0, (10_000,)).numpy().all()
    p = np.array([0.0, 1.0, 0.0, 1.0])
    assert Generator(0).bernoulli(p).tolist() == [False, True, False, True]


def test_permutation() -> None:
    generator = Generator(15)
    for n in (0, 1, 2, 7, 1000):
        assert sorted(generator.permutation(n).tolist()) == list(range(n))
    x = np.arange(12).reshape(6, 2)
    shuffled = Generator(3).permutation(x).numpy()
    order = Generator(3).permutation(6).numpy()
    assert shuffled.tolist() == x[order].tolist()
    # Every permutation of three elements is equally likely.
    seen = [tuple(generator.permutation(3).tolist()) for _ in range(3000)]
    counts = [seen.count(p) for p in set(seen)]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-4


def test_permutation_of_a_seed_is_the_order_of_philox_keys() -> None:
    seed, stream, n = 0xFEDCBA9876543210, 9, 7
    words = [philox([block, 0, stream, 0x53485546], [0x76543210, 0xFEDCBA98]) for block in range(4)]
    keys = [key for w in words for key in (w[0] | w[1] << 32, w[2] | w[3] << 32)][:n]
    assert random.permutation_array(n, seed, stream).tolist() == sorted(range(n), key=keys.__getitem__)


def test_empty_and_bad_shapes() -> None:
    assert Generator(0).normal((0, 3)).shape == (0, 3)
    assert Generator(0).uniform().shape == ()
    assert Generator(0).uniform(3).shape == (3,)
    with pytest.raises(ValueError, match="negative"):
        Generator(0).uniform((2, -1))
    with pytest.raises(DTypeError, match="floats"):
        Generator(0).uniform((2,), dtype=np.int64)


def test_gradients_reach_parameters_of_a_distribution() -> None:
    mean = gx.tensor(np.array([1.0, 2.0]), requires_grad=True)
    std = gx.tensor(np.array(3.0), requires_grad=True)
    z = Generator(4).normal((2,), dtype=np.float64).numpy()
    x = Generator(4).normal((2,), mean, std, dtype=np.float64)
    assert x.tolist() == (z * 3.0 + np.array([1.0, 2.0])).tolist()
    x.sum().backward()
    assert mean.grad.tolist() == [1.0, 1.0]
    assert std.grad.item() == pytest.approx(z.sum(), rel=1e-15)


def test_compiled_draws_have_the_same_bits_and_go_on() -> None:
    generator = Generator(99)

    def draw() -> tuple[gx.Tensor, ...]:
        return (
            generator.uniform((37,)),
            generator.uniform((5, 3), -1.5, 2.7),
            generator.uniform((19,), -1.5, 2.7, np.float64),
            generator.normal((41,)),
            generator.normal((21,), 0.3, 1.7),
            generator.normal((17,), 0.3, 1.7, np.float64),
            generator.integers(-5, 1000, (23,)),
            generator.integers(0, 7, (9,), np.int32),
            generator.bernoulli(0.3, (33,)),
        )

    compiled = gx.compile(draw)
    expected = [[x.numpy() for x in draw()] for _ in range(2)]
    state = generator.state.tolist()
    generator.manual_seed(99)
    for row in expected:
        for want, got in zip(row, compiled(), strict=True):
            assert got.numpy().dtype == want.dtype
            assert got.numpy().tobytes() == want.tobytes()
    assert generator.state.tolist() == state
    assert compiled.stats.compiles == 1


def test_a_failed_trace_draws_nothing() -> None:
    generator = Generator(1)

    @gx.compile
    def fail() -> gx.Tensor:
        x = generator.uniform((3,))
        raise KeyError(str(x.shape))

    with pytest.raises(KeyError):
        fail()
    assert generator.state.tolist() == [1, 0, 0, 0]


def test_permutation_is_refused_in_compiled_code() -> None:
    with pytest.raises(TracerConversionError, match="permutation"):
        gx.compile(lambda: random.permutation(3))()
