"""Plain Python control flow on traced values, compiled: each program against itself run by Python and NumPy."""

import sys
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
from graphc import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "control_flow"))
import programs


def branches(x):
    if x.sum() > 0:
        y = x * 2
    else:
        y = -x
    return y


def chained(x):
    if (0 < x[0] < 5 and not x[1] > 3) or x[2] == 7:
        return x[0]
    elif x[1] > 3:
        return x[1]
    return x[2]


def early_returns(x):
    if x[0] > 0:
        return x
    if x[1] > 0:
        return x * 10
    return x + 100


def traced_range(x, n):
    total = 0.0
    for i in range(n):
        if x[i] < 0:
            continue
        if total > 100:
            break
        total += x[i]
    else:
        total = total + 1000
    return total


def backwards(x, n):
    out = np.zeros(len(x))
    for i in range(n - 1, -1, -2):
        out[i] = x[i] * i
    return out


def guarded_index(x, n):
    i = 0
    while i < n and x[i] > 0:
        i += 1
    return i


def find(x, v):
    for i in range(len(x)):
        if x[i] == v:
            return i
    return -1


def recurrence(x):
    h = 0
    for t in range(len(x)):
        h = np.tanh(h + x[t])
        if h.sum() > 1:
            h = h - 1
    return h


def argmax_of_rows(x):
    best, where = -np.inf, -1
    for i, row in enumerate(x):
        if row.sum() > best:
            best, where = row.sum(), i
    return best, where


def containers(x):
    state = {"a": x, "b": (0.0, [1.0, 2.0])}
    if x[0] > 0:
        state["a"] = state["a"] + 1
    else:
        state = {"a": x * 2, "b": (1.0, [3.0, x[1]])}
    return state


RNG = np.random.default_rng(5)

CASES = [
    *((program, calls) for program, calls, _ in programs.CASES),
    (branches, [(np.arange(3.0),), (-np.arange(3.0),), (np.full(3, np.nan),)]),
    (chained, [([2.0, 1, 0],), ([6.0, 4, 0],), ([6.0, 1, 7],), ([-1.0, 1, 3],)]),
    (early_returns, [([1.0, 2],), ([-1.0, 2],), ([-1.0, -2],)]),
    (traced_range, [(np.arange(5.0) * s, np.int64(n)) for s in (10, 60, -1) for n in (0, 3, 5, -2)]),
    (backwards, [(np.arange(7.0), np.int64(n)) for n in (0, 1, 6, 7)]),
    (guarded_index, [([1.0, 2, 0, 1], np.int64(4)), ([1.0, 2, 3, 1], np.int64(4)), ([1.0, 1, 1, 1], np.int64(0))]),
    (find, [(np.arange(30), np.int64(v)) for v in (0, 17, 29, 99)]),
    (recurrence, [(RNG.standard_normal((20, 4)),), (RNG.standard_normal((150, 4)),)]),
    (argmax_of_rows, [(RNG.standard_normal((5, 3)),)]),
    (containers, [(np.array([1.0, 2.0]),), (np.array([-1.0, 2.0]),)]),
]


def _flat(x):
    if isinstance(x, dict):
        return [leaf for key in sorted(x) for leaf in _flat(x[key])]
    return [leaf for item in x for leaf in _flat(item)] if isinstance(x, (list, tuple)) else [x]


@pytest.mark.parametrize(("function", "calls"), CASES, ids=lambda x: getattr(x, "__name__", ""))
def test_programs(function, calls):
    compiled = gx.compile(function)
    for args in calls:
        args = [np.asarray(a) if isinstance(a, list) else a for a in args]
        got, want = _flat(compiled(*args)), _flat(function(*args))
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            assert np.shape(g) == np.shape(w)
            assert np.asarray(g).dtype == np.asarray(w).dtype
            np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("program", "args", "position"),
    [(program, calls[0], position) for program, calls, position in programs.CASES if position is not None],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_gradients_of_programs(program, args, position):
    """Compiled against dynamic mode, and both against a difference quotient."""

    def loss(w):
        result = program(*args[:position], w, *args[position + 1 :])
        return result.sum() if np.shape(result) else result

    w = np.asarray(args[position], np.float64)
    along = np.random.default_rng(0).standard_normal(w.shape)
    gradient = gx.grad(loss)(w)
    np.testing.assert_allclose(gx.compile(gx.grad(loss))(w), gradient, rtol=1e-10, atol=1e-12)
    quotient = (loss(w + 1e-6 * along) - loss(w - 1e-6 * along)) / 2e-6
    np.testing.assert_allclose(np.sum(gradient * along), quotient, rtol=1e-5, atol=1e-7)


def test_long_loops_do_not_grow_the_graph():
    sizes = {n: len(gx.compile(recurrence).inspect(np.zeros((n, 4))).graph.nodes) for n in (200, 2000)}
    assert sizes[200] == sizes[2000] < 60


def test_loops_that_cannot_be_one_are_unrolled():
    @gx.compile
    def rows(x):
        out = []
        for t in range(150):
            out.append(x[t] * 2)
        return np.stack(out)

    x = RNG.standard_normal((150, 2))
    np.testing.assert_array_equal(rows(x), x * 2)


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.count = gx.tensor(0)

    def forward(self, x):
        if x.sum() > 0:
            return self.linear(x)
        return x


def test_modules_and_helpers_are_rewritten_too():
    gate = Gate()
    compiled = gx.compile(gate)
    for x in (np.ones(3, np.float32), -np.ones(3, np.float32)):
        np.testing.assert_allclose(compiled(x).detach(), gate(gx.tensor(x)).detach(), rtol=1e-6)
    assert compiled.stats.compiles == 1


def test_state_written_in_a_branch_is_written_if_it_runs():
    hits = gx.tensor(np.zeros(2))

    @gx.compile
    def count(x):
        if x > 0:
            hits[0] += 1
        else:
            hits[1] += x
        return x

    for x in (1.0, 2.0, -3.0):
        count(x)
    assert hits.tolist() == [2.0, -3.0]


def test_autograph_can_be_turned_off():
    with pytest.raises(gx.errors.TracerConversionError, match="truth value"):
        gx.compile(branches, autograph=False)(np.arange(3.0))


def halvings(x):
    n = 0
    while x > 1 and n < 20:
        x = x / 2 if x > 3 else x - 1
        n += 1
    return n, x


@pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])
def test_vmap_of_loops_with_different_numbers_of_rounds(mode):
    xs = np.array([1.0, 7.0, 100.0, 0.5])
    rounds, values = mode(gx.vmap(halvings))(xs)
    np.testing.assert_array_equal(rounds, [halvings(x)[0] for x in xs])
    np.testing.assert_array_equal(values, [halvings(x)[1] for x in xs])


def _sizes(tree):
    if isinstance(tree, list):
        return sum(_sizes(part) for part in tree)
    return tree if tree > 0 else -tree


def test_a_function_that_calls_itself():
    """By its name in the module, and by that in a function around it."""

    def power(x, n):
        if x > 100:
            x = x / 2
        return x * power(x, n - 1) if n else 1.0

    assert float(gx.compile(power, static_argnames=("n",))(np.float64(3.0), 4)) == 81.0
    assert float(gx.compile(_sizes)([np.float64(3.0), [np.float64(-4.0)]])) == 7.0
