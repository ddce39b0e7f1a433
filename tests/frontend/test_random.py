"""Random numbers: known answers, independence of mode, moments and distributions."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

import graphc as gx
from graphc.errors import DTypeError, NoDerivativeError, OptionError, ShapeError
from graphc.frontend import random
from graphc.frontend.distributions import Distributions
from graphc.frontend.random import Generator
from graphc.nn import functional


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


#: Draws from what has the methods of a generator, each of one stream: name and function. `test_every_draw_is_here` wants all.
P = np.array([0.1, 0.2, 0.0, 0.3, 0.4])
DRAWS: dict[str, list[Callable[[Any], gx.Tensor]]] = {
    "bits": [lambda g: g.bits((7,)), lambda g: g.bits((2, 3), np.uint64)],
    "uniform": [
        lambda g: g.uniform((37,)),
        lambda g: g.uniform((5, 3), -1.5, 2.7),
        lambda g: g.uniform(9, dtype=np.float64),
    ],
    "normal": [lambda g: g.normal((21,), 0.3, 1.7), lambda g: g.normal((17,), dtype=np.float64)],
    "integers": [lambda g: g.integers(-5, 1000, (23,)), lambda g: g.integers(0, 7, (9,), np.int32)],
    "bernoulli": [lambda g: g.bernoulli(0.3, (33,)), lambda g: g.bernoulli(P)],
    "exponential": [
        lambda g: g.exponential((37,)),
        lambda g: g.exponential((5, 3), 2.5),
        lambda g: g.exponential((19,), 0.3, np.float64),
        lambda g: g.exponential((9,), 0.3, np.float16),
        lambda g: g.exponential((0, 2)),
    ],
    "gamma": [
        lambda g: g.gamma(0.3, (41,)),
        lambda g: g.gamma(2.5, (500,), 1.5),
        lambda g: g.gamma(np.array([0.01, 1, 1e3, 1e7]), dtype=np.float64),
        lambda g: g.gamma(np.array([[0.5], [4.0]]), (2, 5), np.arange(5), np.float16),
        lambda g: g.gamma(2.0, (3, 0)),
    ],
    "truncated_normal": [
        lambda g: g.truncated_normal((50,)),
        lambda g: g.truncated_normal((50,), 1, 3, 0.5, 2.0),
        lambda g: g.truncated_normal((50,), -np.inf, np.array(-5.0), dtype=np.float64),
        lambda g: g.truncated_normal(2, 30, np.array([31, np.inf]), dtype=np.float64),
        lambda g: g.truncated_normal((0,)),
    ],
    "categorical": [
        lambda g: g.categorical(np.arange(12.0).reshape(3, 4)),
        lambda g: g.categorical(np.arange(12, dtype=np.float32).reshape(3, 4), axis=0, shape=(5, 4)),
        lambda g: g.categorical(np.zeros(3, np.float16), shape=(2, 2)),
        lambda g: g.categorical(np.zeros((0, 3))),
    ],
    "choice": [
        lambda g: g.choice(10, (4, 5)),
        lambda g: g.choice(np.arange(20).reshape(10, 2), 5, replace=False),
        lambda g: g.choice(5, (60,), p=P),
        lambda g: g.choice(5, 4, False, P),
        lambda g: g.choice(np.arange(6).reshape(2, 3), (2, 2), axis=1),
        lambda g: g.choice(0, 0),
        lambda g: g.choice(0, (0, 2), replace=False),
    ],
    "permutation": [
        lambda g: g.permutation(17),
        lambda g: g.permutation(np.arange(12).reshape(6, 2)),
        lambda g: g.permutation(0),
    ],
}


class Keyed:
    """The functions of the module with a key, as methods."""

    def __init__(self, key: gx.Tensor) -> None:
        self.key = key

    def __getattr__(self, name: str) -> Callable[..., gx.Tensor]:
        return functools.partial(getattr(random, name), key=self.key)


def test_every_draw_is_here() -> None:
    methods = {name for name in vars(Distributions) if not name.startswith("_")}
    assert methods == set(DRAWS)
    assert methods < set(random.__all__)


def all_draws(source: Any) -> list[gx.Tensor]:
    return [draw(source) for draws in DRAWS.values() for draw in draws]


def same_draws(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    for number, (x, y) in enumerate(zip(found, expected, strict=True)):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype and x.shape == y.shape, number
        assert x.tobytes() == y.tobytes(), number


def test_compiled_distributions_have_the_same_bits_and_go_on() -> None:
    generator = Generator(98)
    expected = [all_draws(generator) for _ in range(2)]
    state = generator.state.tolist()
    generator.manual_seed(98)
    compiled = gx.compile(lambda: all_draws(generator))
    for row in expected:
        same_draws(compiled(), row)
    assert generator.state.tolist() == state == [98, 0, 2 * len(expected[0]), 0]
    assert compiled.stats.compiles == 1


def test_fused_draws_have_the_same_bits() -> None:
    """Kernels that make numbers and use them at once."""

    def use(g: Any) -> tuple[gx.Tensor, ...]:
        x = g.gamma(0.7, (300,)) - g.exponential((300,))
        y = np.maximum(g.truncated_normal((40, 7)), g.categorical(np.zeros((7, 5), np.float32)))
        kept = g.bernoulli(0.25, (64,))
        return x, y.max(axis=0), np.where(kept, g.normal((64,)), 0)

    expected = use(Generator(5))
    generator = Generator(5)
    same_draws(gx.compile(lambda: use(generator))(), expected)


def test_keyed_draws() -> None:
    """A key gives the first draw of its seed's generator; again and again, compiled with the key as an argument too."""
    for draws in DRAWS.values():
        for draw in draws:
            same_draws([draw(Keyed(random.key(77)))], [draw(Generator(77))])
    key = random.key(3)
    state = random.default_generator().state.tolist()
    expected = all_draws(Keyed(key))
    compiled = gx.compile(lambda key: all_draws(Keyed(key)))
    for _ in range(2):
        same_draws(compiled(key), expected)
    same_draws(
        [random.rand(3, key=key), random.randn(2, 2, key=key)], [Generator(3).uniform(3), Generator(3).normal((2, 2))]
    )
    assert random.default_generator().state.tolist() == state


def test_keyed_draws_in_exported_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = random.key(11).numpy()

    @gx.compile
    def drawn_model(key: Any) -> list[gx.Tensor]:
        return all_draws(Keyed(key))

    drawn_model.export(tmp_path / "drawn_model", key)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("drawn_model")
    same_draws(module.drawn_model(key), all_draws(Keyed(key)))


def test_split_and_fold_in() -> None:
    key = random.key(0x0123456789ABCDEF)
    keys = random.split(key, 5).numpy()
    assert keys.shape == (5, 4) and keys.dtype == np.uint32
    words = [
        w for block in range(5) for w in philox([block, 0, 0, 0], [0x89ABCDEF ^ 0x53504C49, 0x01234567 ^ 0x54000000])
    ]
    assert keys.ravel().tolist() == words
    first = philox([0, 0, 0, 0], [0x89ABCDEF ^ 0x464F4C44, 0x01234567 ^ 0x494E0000])
    for number in (0, 1, 2**40 + 3, -1):
        low, high = number & 0xFFFFFFFF, (number >> 32) & 0xFFFFFFFF
        expected = philox([0, 0, *first[2:]], [first[0] ^ low, first[1] ^ high])
        assert random.fold_in(key, number).tolist() == expected
        assert gx.compile(random.fold_in)(key, np.int64(number)).tolist() == expected
    many = np.concatenate([random.split(key, 100).numpy(), *(random.fold_in(key, i).numpy()[None] for i in range(100))])
    assert len({tuple(k) for k in many.tolist()}) == 200
    bits = np.unpackbits(np.stack([random.bits(64, key=k).numpy() for k in many]).view(np.uint8), axis=1)
    assert np.abs(np.corrcoef(bits.astype(float)) - np.eye(200)).max() < 6 / np.sqrt(bits.shape[1])
    for wrong in (0, np.zeros(3, np.uint32), np.zeros(4, np.int32)):
        with pytest.raises(DTypeError, match="takes a key"):
            random.uniform(3, key=wrong)
    with pytest.raises(DTypeError, match="one integer"):
        random.fold_in(key, 1.5)


def follows(x: Any, name: str, *parameters: Any) -> bool:
    return bool(stats.kstest(np.asarray(x, np.float64), name, parameters).pvalue > 1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponential_moments_and_distribution(dtype: type) -> None:
    x = Generator(21).exponential((200_000,), dtype=dtype).numpy()
    n = x.size
    assert x.dtype == dtype and x.min() > 0
    assert abs(x.mean() - 1) < 5 / np.sqrt(n) and abs(x.var() - 1) < 5 * np.sqrt(8 / n)
    assert follows(x, "expon")
    assert Generator(21).exponential((100,), 0.7, dtype).tolist() == (x[:100] * dtype(0.7)).tolist()
    assert Generator(21).exponential((100,), 0.0, dtype).tolist() == [0.0] * 100


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", [0.1, 0.9, 1.0, 1.5, 30.0, 1e4, 1e8])
def test_gamma_moments_and_distribution(dtype: type, alpha: float) -> None:
    x = Generator(22).gamma(alpha, (100_000,), dtype=dtype).numpy()
    assert x.dtype == dtype
    wide = x.astype(np.float64)
    assert abs(wide.mean() - alpha) < 5 * np.sqrt(alpha / x.size)
    assert abs(wide.var() - alpha) < 5 * alpha * np.sqrt((2 + 6 / alpha) / x.size)
    if dtype is np.float64 or alpha < 1e7:  # float32 has few numbers there
        assert follows(x, "gamma", alpha)
    scaled = Generator(22).gamma(alpha, (50,), 3.0, dtype).numpy()
    assert scaled.tolist() == (x[:50] * dtype(3)).tolist()


def test_gamma_of_extreme_parameters() -> None:
    tiny = Generator(23).gamma(1e-5, (10_000,), dtype=np.float64).numpy()
    assert (tiny >= 0).all() and abs(np.mean(tiny > 1e-300) - stats.gamma.sf(1e-300, 1e-5)) < 0.003
    given = gx.tensor(np.array([0.0, -1.0, np.nan, np.inf]))
    found = Generator(0).gamma(given, dtype=np.float64).numpy()
    assert found[0] == 0 and np.isnan(found[1:3]).all() and found[3] == np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("low", "high", "mean", "std"),
    [(-2, 2, 0, 1), (0.5, 0.75, 0, 1), (-np.inf, 1, 2, 0.5), (4, np.inf, -1, 1), (-9, -8, 0, 1), (-1, 30, 0.5, 2)],
)
def test_truncated_normal_moments_and_distribution(
    dtype: type, low: float, high: float, mean: float, std: float
) -> None:
    x = Generator(24).truncated_normal((100_000,), low, high, mean, std, dtype).numpy()
    assert x.dtype == dtype and x.min() >= low and x.max() <= high
    ends = (low - mean) / std, (high - mean) / std
    assert follows(x, "truncnorm", *ends, mean, std)
    exact = stats.truncnorm(*ends, mean, std)
    assert abs(x.mean(dtype=np.float64) - exact.mean()) < 5 * exact.std() / np.sqrt(x.size)


def test_truncated_normal_is_the_quantile() -> None:
    """Far out, against SciPy's functions on the same bits."""
    u = (np.floor(Generator(25).bits(1000, np.uint64).numpy() / 2.0**12) + 0.5) / 2.0**52
    for low, high in [(-30.0, -29.0), (35.0, 36.0), (-2.0, 30.0), (-36.9, 0.0)]:
        x = Generator(25).truncated_normal(1000, low, high, dtype=np.float64).numpy()
        sign = -1 if low > 0 else 1
        first, last = sorted((sign * low, sign * high))
        expected = sign * special.ndtri(special.ndtr(first) + u * (special.ndtr(last) - special.ndtr(first)))
        np.testing.assert_allclose(x, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_categorical_frequencies(dtype: type) -> None:
    p = np.array([[0.5, 0.3, 0.15, 0.05, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2]])
    with np.errstate(divide="ignore"):
        logits = (np.log(p) + 3).astype(dtype)
    x = Generator(26).categorical(logits, shape=(50_000, 2)).numpy()
    assert x.dtype == np.int64
    for row in range(2):
        counts = np.bincount(x[:, row], minlength=5)
        exact = special.softmax(logits[row].astype(np.float64)) * 50_000
        assert counts[exact == 0].sum() == 0
        assert stats.chisquare(counts[exact > 0], exact[exact > 0]).pvalue > 1e-4
    turned = Generator(26).categorical(logits.T, axis=0, shape=(50_000, 2)).numpy()
    assert np.array_equal(turned, x)
    assert Generator(1).categorical(logits).shape == (2,)


def test_choice_frequencies() -> None:
    x = Generator(27).choice(5, (60_000,), p=P).numpy()
    counts = np.bincount(x, minlength=5)
    assert counts[2] == 0
    assert stats.chisquare(counts[P > 0], P[P > 0] * 60_000).pvalue > 1e-4
    even = np.bincount(Generator(27).choice(np.arange(10, 17), 70_000).numpy() - 10)
    assert even.size == 7 and stats.chisquare(even).pvalue > 1e-4
    weights = gx.tensor(P * 7)
    assert Generator(27).choice(5, (60_000,), p=weights).numpy().tolist() == x.tolist()


def test_choice_without_replacement_is_drawing_one_after_the_other() -> None:
    p = np.array([0.5, 0.3, 0.2])
    generator = Generator(28)
    draw = gx.compile(lambda: [generator.choice(3, 2, False, p) for _ in range(50)])
    pairs = [tuple(x.tolist()) for _ in range(80) for x in draw()]
    wanted = {(i, j): p[i] * p[j] / (1 - p[i]) for i in range(3) for j in range(3) if i != j}
    counts = [pairs.count(pair) for pair in wanted]
    assert sum(counts) == len(pairs)
    assert stats.chisquare(counts, np.array(list(wanted.values())) * len(pairs)).pvalue > 1e-4
    rows = Generator(1).choice(np.arange(12).reshape(4, 3), (2, 2), replace=False).numpy()
    assert rows.shape == (2, 2, 3) and sorted(rows[..., 0].ravel().tolist()) == [0, 3, 6, 9]


def test_compiled_permutations_are_even() -> None:
    generator = Generator(29)
    draw = gx.compile(lambda: [generator.permutation(3) for _ in range(60)])
    seen = [tuple(x.tolist()) for _ in range(50) for x in draw()]
    counts = [seen.count(p) for p in set(seen)]
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > 1e-4


def test_dropout_masks_have_the_same_bits_in_all_modes() -> None:
    x = np.arange(1, 101, dtype=np.float32)
    expected = functional.dropout(gx.tensor(x), 0.3, generator=Generator(30))
    assert 15 < (expected.numpy() == 0).sum() < 45
    generator = Generator(30)
    compiled = gx.compile(lambda x: functional.dropout(x, 0.3, generator=generator) * 1)
    same_draws([compiled(x)], [expected])


def test_gradients_of_new_distributions() -> None:
    """By finite differences: the bits stay as they are."""
    draws = {
        "scale of exponential": (lambda t: Generator(4).exponential(5, t[0], np.float64), [0.7]),
        "scale of gamma": (lambda t: Generator(4).gamma(1.5, (5,), t[0], np.float64), [0.7]),
        "truncated normal": (lambda t: Generator(4).truncated_normal(5, *t, np.float64), [-1.5, 0.75, 0.3, 1.2]),
        "right tail": (lambda t: Generator(4).truncated_normal(5, *t, np.float64), [3.0, 3.5, 0.3, 1.2]),
    }
    for name, (draw, start) in draws.items():
        parameters = [gx.tensor(np.array(v), requires_grad=True) for v in start]
        ct = np.array([1.0, -2.0, 0.5, 3.0, 1.5])
        (draw(parameters) * ct).sum().backward()
        for k, parameter in enumerate(parameters):
            values = []
            for step in (1e-6, -1e-6):
                moved = [gx.tensor(np.array(v + step * (i == k))) for i, v in enumerate(start)]
                values.append(float((draw(moved) * ct).sum()))
            slope = (values[0] - values[1]) / 2e-6
            assert parameter.grad.item() == pytest.approx(slope, rel=1e-6, abs=1e-8), (name, k)


@pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])
def test_gamma_has_no_derivative_by_its_shape_parameter(mode: Any) -> None:
    def slope(alpha: Any) -> gx.Tensor:
        return gx.grad(lambda a: Generator(1).gamma(a, (3,)).sum())(alpha)

    with pytest.raises(NoDerivativeError, match=r"alpha[\s\S]*detach"):
        mode(slope)(gx.tensor(2.0))


def test_bad_parameters_in_dynamic_mode() -> None:
    g = Generator(0)
    for call in (
        lambda: g.exponential(3, -1.0),
        lambda: g.gamma(0.0),
        lambda: g.gamma(1.0, scale=-2),
        lambda: g.gamma(np.array([1.0, np.nan])),
        lambda: g.truncated_normal(3, 1.0, 1.0),
        lambda: g.truncated_normal(3, std=0.0),
        lambda: g.truncated_normal(3, 40.0, 50.0),
        lambda: g.choice(3, 4, replace=False),
        lambda: g.choice(0, 4),
        lambda: g.choice(2, p=[0.5, 0.6]),
        lambda: g.choice(2, p=[1.5, -0.5]),
        lambda: g.choice(3, 3, False, [0.5, 0.5, 0.0]),
    ):
        with pytest.raises(OptionError):
            call()
    for call in (lambda: g.choice(3, p=[0.5, 0.5]), lambda: g.categorical(np.zeros((2, 0))), lambda: g.exponential(-1)):
        with pytest.raises(ShapeError):
            call()
    assert g.choice(3, p=np.full(3, 1 / 3, np.float32)).shape == ()
