"""Symbolic dimensions against integers: every operation commutes with evaluation, equal polynomials are equal."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from graphc.ir import dims
from graphc.ir.dims import Dim, Expr, Symbol

SYMBOLS = 3


def draw(rng: random.Random, depth: int) -> tuple[Dim, Callable[[list[int]], int]]:
    """A random expression and the function that computes it directly."""
    if depth == 0 or rng.random() < 0.2:
        if rng.random() < 0.4:
            n = rng.randint(-4, 6)
            return n, lambda s: n
        i = rng.randrange(SYMBOLS)
        return dims.symbol(i), lambda s: s[i]
    x, fx = draw(rng, depth - 1)
    kind = rng.choice(["add", "sub", "mul", "neg", "floordiv", "mod", "pos", "max", "min"])
    if kind in ("floordiv", "mod"):
        # Denominators are known to be positive: an integer, or a symbol plus one.
        if rng.random() < 0.7:
            q = rng.randint(1, 6)
            return (x // q, lambda s: fx(s) // q) if kind == "floordiv" else (x % q, lambda s: fx(s) % q)
        i = rng.randrange(SYMBOLS)
        y: Dim = dims.symbol(i) + 1
        return (x // y, lambda s: fx(s) // (s[i] + 1)) if kind == "floordiv" else (x % y, lambda s: fx(s) % (s[i] + 1))
    if kind == "neg":
        return -x, lambda s: -fx(s)
    if kind == "pos":
        return dims.pos(x), lambda s: max(fx(s), 0)
    y, fy = draw(rng, depth - 1)
    made: dict[str, tuple[Dim, Callable[[list[int]], int]]] = {
        "add": (x + y, lambda s: fx(s) + fy(s)),
        "sub": (x - y, lambda s: fx(s) - fy(s)),
        "mul": (x * y, lambda s: fx(s) * fy(s)),
        "max": (dims.maximum(x, y), lambda s: max(fx(s), fy(s))),
        "min": (dims.minimum(x, y), lambda s: min(fx(s), fy(s))),
    }
    return made[kind]


@pytest.mark.parametrize("seed", range(20))
def test_evaluation_is_exact(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        dim, expected = draw(rng, 3)
        for sizes in ([0, 0, 0], [1, 1, 1], [rng.randint(0, 50) for _ in range(SYMBOLS)]):
            assert dims.evaluate(dim, dict(enumerate(sizes))) == expected(sizes), (dim, sizes)


@pytest.mark.parametrize("seed", range(5))
def test_known_signs_hold(seed: int) -> None:
    rng = random.Random(100 + seed)
    known = 0
    for _ in range(400):
        dim, expected = draw(rng, 3)
        if dims.is_nonnegative(dim):
            known += 1
            for _ in range(5):
                assert expected([rng.randint(0, 30) for _ in range(SYMBOLS)]) >= 0, dim
    assert known > 50


@pytest.mark.parametrize("seed", range(5))
def test_ring_laws_are_structural(seed: int) -> None:
    rng = random.Random(200 + seed)
    for _ in range(60):
        x, y, z = (draw(rng, 2)[0] for _ in range(3))
        assert (x + y) + z == x + (y + z)
        assert x * y == y * x
        assert x * (y + z) == x * y + x * z
        assert x - x == 0
        assert (x + y) - y == x
        q = rng.randint(1, 5)
        assert (x * q) // q == x
        assert (x * q + rng.randrange(q)) // q == x


@pytest.mark.parametrize("seed", range(5))
def test_substitution_commutes_with_evaluation(seed: int) -> None:
    rng = random.Random(300 + seed)
    for _ in range(100):
        dim, expected = draw(rng, 2)
        inner = [draw(rng, 1) for _ in range(SYMBOLS)]
        sizes = [rng.randint(0, 9) for _ in range(SYMBOLS)]
        values = [f(sizes) for _, f in inner]
        if min(values) < 0:
            continue  # a size is never negative, and signs that are known rely on that
        replaced = dims.substitute(dim, {i: d for i, (d, _) in enumerate(inner)})
        assert dims.evaluate(replaced, dict(enumerate(sizes))) == expected(values), dim


def test_a_constant_expression_is_an_integer() -> None:
    n = dims.symbol(0)
    for constant in (n - n, n * 0, (n + 1) * 2 - 2 * n, (4 * n) // 4 - n, dims.pos(-1 - n)):
        assert type(constant) is int


def test_divisions_merge() -> None:
    n = dims.symbol(0)
    assert (n // 2) // 3 == n // 6
    assert (n // 2 + 1) // 2 == (n + 2) // 4
    assert (6 * n + 5) // 3 == 2 * n + 1


def test_text() -> None:
    n, m = dims.symbol(0), dims.symbol(1)
    assert str(n * n - 2 * m + 3) == "s0*s0 - 2*s1 + 3"
    assert str((n + 1) // 2) == "floordiv(s0 + 1, 2)"
    assert str(-1 * n) == "-s0"


def test_symbols_and_missing_sizes() -> None:
    n, m = dims.symbol(0), dims.symbol(1)
    dim = (n + 1) // (m + 1) + dims.pos(m - 3)
    assert set(dims.symbols_of(dim)) == {Symbol(0), Symbol(1)}
    assert isinstance(dim, Expr)
    with pytest.raises(KeyError, match="s1"):
        dims.evaluate(dim, {0: 4})
