"""The compile driver: signatures, kinds of results, state, in-place writes, guards, transactions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

import graphc as gx
from graphc.errors import (
    DTypeError,
    GradientError,
    ShapeError,
    StateError,
    StructureError,
    TraceError,
    TracerConversionError,
    UnsupportedError,
)

RNG = np.random.default_rng(7)


def test_numpy_code_gives_numpy_results():
    @gx.compile
    def predict(x, w, b):
        return np.tanh(x @ w + b)

    x, w, b = (RNG.standard_normal(s).astype(np.float32) for s in [(5, 7), (7, 3), (3,)])
    got = predict(x, w, b)
    assert type(got) is np.ndarray and got.dtype == np.float32
    np.testing.assert_allclose(got, np.tanh(x @ w + b), rtol=2e-6)
    predict(x + 1, w, b)
    assert predict.stats.compiles == 1 and predict.stats.calls == 2


def test_each_shape_and_dtype_is_a_signature():
    f = gx.compile(lambda x: x * 2)
    for x in (
        np.ones(3),
        np.ones(4),
        np.ones(3, np.float32),
        np.ones(3),
        np.arange(3),
        np.ones((0, 3)),
        np.float64(2.0),
    ):
        got = f(x)
        np.testing.assert_array_equal(got, x * 2)
        assert got.dtype == (x * 2).dtype
    assert f.stats.compiles == 6
    assert "new signature" in f.stats.reasons[1]


def test_rank_zero_array_results_are_numpy_scalars():
    f = gx.compile(lambda x: x.sum())
    assert type(f(np.ones(3))) is np.float64
    assert isinstance(f(gx.tensor([1.0])), gx.Tensor)


class Point(NamedTuple):
    x: object
    y: object


@dataclass
class Pair:
    first: object
    second: object


def test_containers_go_in_and_out():
    @gx.compile
    def f(tree, *, scale=2.0, names=("a", "b")):
        return {
            "list": [tree["p"].x * scale, tree["q"].first],
            "tuple": (tree["p"].y + 1, names[0], None),
            "data": Pair(tree["q"].second, 3),
        }

    a, b, c = np.arange(3.0), np.ones(2), np.full((2, 2), 4.0)
    out = f({"p": Point(a, b), "q": Pair(c, a)}, scale=3.0)
    np.testing.assert_array_equal(out["list"][0], a * 3)
    assert out["list"][1] is c
    np.testing.assert_array_equal(out["tuple"][0], b + 1)
    assert out["tuple"][1:] == ("a", None)
    assert out["data"].first is a and out["data"].second == 3
    f({"q": Pair(c, a), "p": Point(a, b)}, scale=4.0)
    assert f.stats.compiles == 1


def test_python_floats_are_weak_and_traced_and_ints_static():
    f = gx.compile(lambda x, a: x * a)
    x = np.ones(3, np.float32)
    assert f(x, 0.5).dtype == np.float32
    np.testing.assert_array_equal(f(x, 0.25), x * np.float32(0.25))
    assert f.stats.compiles == 1
    f(x, 2)
    f(x, 3)
    assert f.stats.compiles == 3


def test_arithmetic_of_python_floats_stays_weak():
    x = np.ones(3, np.float32)
    for body in (lambda x, r: x * (r * 2.0), lambda x, r: x * -(1 - r / 2), lambda x, r: x * abs(r) ** 2):
        expected = body(x, 0.5)
        got = gx.compile(body)(x, 0.5)
        assert got.dtype == expected.dtype == np.float32
        np.testing.assert_array_equal(got, expected)
    assert gx.compile(lambda x, r: x * np.sin(r))(x, 0.5).dtype == (x * np.sin(0.5)).dtype == np.float64


def test_arguments_are_named_in_reasons():
    f = gx.compile(lambda x, *rest, scale=1.0, **more: x * scale)
    f(np.ones(1), np.ones(2), np.ones(3), scale=2.0, other=np.ones(4))
    assert "x: f64[1], rest[0]: f64[2], rest[1]: f64[3]" in f.stats.reasons[0]


def test_static_argnames():
    @gx.compile(static_argnames="p")
    def f(x, p):
        return x if p == 1.5 else x * p

    np.testing.assert_array_equal(f(np.ones(2), 1.5), np.ones(2))
    np.testing.assert_array_equal(f(np.ones(2), 2.5), np.full(2, 2.5))
    assert f.stats.compiles == 2
    with pytest.raises(StructureError, match="not arguments"):
        gx.compile(lambda x: x, static_argnames="y")


@pytest.mark.parametrize(
    "make",
    [
        lambda: RNG.standard_normal((4, 6)).T,
        lambda: RNG.standard_normal((4, 6))[::2, ::-1],
        lambda: np.broadcast_to(RNG.standard_normal(3), (4, 3)),
        lambda: RNG.standard_normal((4, 3)).astype(">f8"),
        lambda: (
            np.frombuffer(b"\0" + RNG.standard_normal(12).tobytes(), dtype=np.uint8)[1:].view(np.float64).reshape(4, 3)
        ),
        lambda: np.zeros((0, 3)),
        lambda: np.zeros((3, 0)),
        lambda: np.float64(3.0),
        lambda: np.array(2.0),
    ],
)
def test_any_memory_layout(make):
    x = make()
    f = gx.compile(lambda x: np.exp(x) - 1)
    np.testing.assert_allclose(f(x), np.exp(x) - 1, rtol=1e-14, atol=1e-15)


def test_copies_are_counted():
    f = gx.compile(lambda x: x + 1)
    f(np.ones((4, 6)))
    assert f.stats.copies == 0
    f(np.ones((6, 4)).T)
    assert f.stats.copies == 1


def test_object_and_unknown_dtypes_are_errors():
    f = gx.compile(lambda x: x + 1)
    for bad in (np.array([1, "a"], dtype=object), np.array(["a"]), np.ones(3, np.longdouble)):
        with pytest.raises(DTypeError, match="supported"):
            f(bad)
    with pytest.raises(DTypeError, match="MaskedArray"):
        f(np.ma.masked_array([1.0], mask=[True]))
    with pytest.raises(StructureError, match="neither an array"):
        f({1, 2})


def test_state_is_read_live_and_written_in_place():
    w = gx.tensor([1.0, 2.0])
    array = w.numpy()

    @gx.compile
    def f(x):
        y = x * w
        w.assign(w + 1)
        return y

    np.testing.assert_array_equal(f(np.ones(2, np.float32)), [1, 2])
    np.testing.assert_array_equal(f(np.ones(2, np.float32)), [2, 3])
    w.assign(gx.tensor([10.0, 20.0]))
    out = f(np.ones(2, np.float32))
    assert isinstance(out, gx.Tensor)
    np.testing.assert_array_equal(out, [10, 20])
    assert w.numpy() is array
    assert f.stats.compiles == 1


def test_in_place_operators_on_state_and_views():
    def body(buf, x):
        buf += x
        row = buf[1]
        row *= 2
        buf[0, ::2] = 7.0
        t = buf.T
        t -= 1
        return buf.sum()

    for mode in (lambda f: f, gx.compile):
        buf = gx.tensor(np.arange(8.0).reshape(2, 4))
        total = mode(lambda x, buf=buf: body(buf, x))(np.full(4, 0.5))
        expected = np.arange(8.0).reshape(2, 4)
        body(expected, np.full(4, 0.5))
        np.testing.assert_array_equal(buf, expected)
        assert float(total) == expected.sum()


def test_view_of_a_base_that_changes_later():
    @gx.compile
    def f(x):
        y = x * 1
        row = y[0]
        y += 10
        return row

    np.testing.assert_array_equal(f(np.zeros((2, 3))), np.full(3, 10.0))


def test_in_place_writes_to_array_arguments_reach_the_caller():
    @gx.compile
    def f(x, i):
        x += 1
        x[i] = 0
        return x

    x = np.arange(4.0)
    assert f(x, 2) is x
    np.testing.assert_array_equal(x, [1, 2, 0, 4])
    big = np.arange(8.0)
    f(big[::2], 0)
    np.testing.assert_array_equal(big, [0, 1, 3, 3, 5, 5, 7, 7])
    locked = np.arange(4.0)
    locked.flags.writeable = False
    with pytest.raises(StateError, match="read-only"):
        f(locked, 2)


def test_arguments_that_share_memory_with_what_is_written():
    w = gx.asarray(np.arange(4.0))

    @gx.compile
    def f(x):
        w.assign(w * 2)
        return x + 0.0

    np.testing.assert_array_equal(f(w.numpy()), np.arange(4.0))
    np.testing.assert_array_equal(w, np.arange(4.0) * 2)

    @gx.compile
    def g(x, y):
        x += 1
        return y * 10

    base = np.arange(6.0)
    out = g(base[:4], base[2:])
    np.testing.assert_array_equal(out, np.arange(2.0, 6.0) * 10)


def test_swap_of_two_states():
    a, b = gx.tensor([1.0, 2.0]), gx.tensor([3.0, 4.0])

    @gx.compile
    def swap():
        old = a + 0
        a.assign(b * 1)
        b.assign(old)

    swap()
    np.testing.assert_array_equal(a, [3, 4])
    np.testing.assert_array_equal(b, [1, 2])


def test_one_value_returned_twice_and_two_equal_values():
    @gx.compile
    def f(x):
        y = x + 1
        z = x + 1
        return y, y, z

    a, b, c = f(np.zeros(3))
    assert a is b and c is not a
    a[0] = 5
    assert c[0] == 1


GLOBAL_SCALE = 2.0


def test_captured_scalars_are_guards():
    global GLOBAL_SCALE  # noqa: PLW0603
    shift = 1.0

    def helper(x):
        return x * GLOBAL_SCALE

    @gx.compile
    def f(x):
        return helper(x) + shift

    assert f(np.ones(1))[0] == 3
    GLOBAL_SCALE = 5.0
    assert f(np.ones(1))[0] == 6
    shift = 2.0
    assert f(np.ones(1))[0] == 7
    assert f.stats.compiles == 3
    assert "GLOBAL_SCALE changed from 2.0 to 5.0" in f.stats.reasons[1]
    GLOBAL_SCALE = 2.0


def test_a_failed_trace_changes_nothing():
    w = gx.tensor([1.0], requires_grad=True)

    @gx.compile
    def f(x):
        (w * x).sum().backward()
        with gx.no_grad():
            w.assign(w * 2)
        raise RuntimeError("user error")

    with pytest.raises(RuntimeError, match="user error"):
        f(np.ones(1, np.float32))
    assert w.detach().item() == 1.0 and w.grad is None
    assert w.requires_grad and w.is_leaf


def test_gradients_inside_and_outside():
    x = RNG.standard_normal((3, 4))

    def loss_of(w):
        return np.tanh(x @ w).sum()

    w0 = RNG.standard_normal((4, 2))
    dynamic = gx.tensor(w0, requires_grad=True)
    loss_of(dynamic).backward()

    inside = gx.tensor(w0, requires_grad=True)

    @gx.compile
    def step():
        loss_of(inside).backward()

    step()
    np.testing.assert_allclose(inside.grad, dynamic.grad, rtol=1e-12)
    step()
    np.testing.assert_allclose(inside.grad, 2 * dynamic.grad.numpy(), rtol=1e-12)
    assert step.stats.compiles == 1

    outside = gx.tensor(w0, requires_grad=True)
    compiled = gx.compile(lambda: loss_of(outside))
    compiled().backward()
    np.testing.assert_allclose(outside.grad, dynamic.grad, rtol=1e-12)

    argument = gx.tensor(w0, requires_grad=True)
    h = gx.compile(loss_of)
    (h(argument * 2) * 3).backward()
    reference = gx.tensor(w0, requires_grad=True)
    (loss_of(reference * 2) * 3).backward()
    np.testing.assert_allclose(argument.grad, reference.grad, rtol=1e-12)


def test_no_grad_gives_no_tape():
    w = gx.tensor([1.0], requires_grad=True)
    f = gx.compile(lambda: w * 2)
    with gx.no_grad():
        assert not f().requires_grad
    assert f().requires_grad
    assert not gx.compile((w * 2).detach)().requires_grad


def test_overwriting_what_a_compiled_backward_needs_is_an_error():
    w = gx.tensor([2.0], requires_grad=True)
    f = gx.compile(lambda: w * w)
    y = f()
    with gx.no_grad():
        w.assign(w + 1)
    with pytest.raises(StateError, match="overwritten"):
        y.sum().backward()


def test_functional_gradients():
    a = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(gx.grad(lambda x: (x**3).sum())(a), 3 * a**2)
    compiled = gx.compile(gx.grad(lambda x: (x**3).sum()))
    got = compiled(a)
    assert type(got) is np.ndarray
    np.testing.assert_allclose(got, 3 * a**2)
    second = gx.compile(gx.grad(lambda x: gx.grad(lambda y: (y**3).sum())(x).sum()))
    np.testing.assert_allclose(second(a), 6 * a)
    value, grads = gx.value_and_grad(lambda t, k: (t["a"] * t["b"]).sum() * k, argnums=(0, 1))(
        {"a": a, "b": a + 1}, 2.0
    )
    np.testing.assert_allclose(value, (a * (a + 1)).sum() * 2)
    np.testing.assert_allclose(grads[0]["a"], 2 * (a + 1))
    np.testing.assert_allclose(grads[1], (a * (a + 1)).sum(), rtol=1e-6)
    with pytest.raises(GradientError, match="scalar"):
        gx.grad(lambda x: x * 2)(a)
    with pytest.raises(GradientError, match="floating-point"):
        gx.grad(lambda x: x.sum())(np.arange(3))


def test_where_does_not_leak_nan():
    for mode in (lambda f: f, gx.compile):
        g = mode(gx.grad(lambda x: np.where(x > 0, np.sqrt(x), 0.0).sum()))
        np.testing.assert_array_equal(g(np.array([0.0, 4.0, -1.0])), [0, 0.25, 0])


# -- what cannot be traced ------------------------------------------------------------------------------------------


def _here() -> str:
    return __file__.rpartition("/")[2]


@pytest.mark.parametrize(
    "body",
    [
        lambda x: [0] * x.argmax(),
        lambda x: [y for y in x if y > 0],
        lambda x: np.zeros(x.argmax()),
        np.asarray,
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: complex(x.sum()),
    ],
)
def test_concrete_values_are_refused(body):
    with pytest.raises(TracerConversionError) as caught:
        gx.compile(body)(np.ones(3))
    assert _here() in str(caught.value) and "hint" in str(caught.value)


def test_unknown_numpy_functions():
    for body in (
        np.unwrap,
        np.subtract.accumulate,
        np.spacing,
    ):
        with pytest.raises(UnsupportedError, match="not supported") as caught:
            gx.compile(body)(np.ones((3, 3)))
        assert _here() in str(caught.value)


def test_shape_and_dtype_mismatches_name_the_line():
    for body, error in [
        (lambda x: x + np.ones(4), ShapeError),
        (lambda x: x @ np.ones((4, 4)), ShapeError),
        (lambda x: x.reshape(7), ShapeError),
        (lambda x: np.concatenate([x, np.ones((2, 2))]), ShapeError),
        (lambda x: x.sum(axis=3), ShapeError),
        (lambda x: np.bitwise_and(x, 1), DTypeError),
        (lambda x: x[5], IndexError),
        (lambda x: x[0, 0, 0, 0], IndexError),
    ]:
        for mode in (lambda f: f, gx.compile):
            with pytest.raises(error) as caught:
                mode(body)(gx.tensor(np.ones((3, 3))))
            assert _here() in str(caught.value), str(caught.value)


def test_index_out_of_range_in_native_code():
    f = gx.compile(lambda x, i: x[i])
    x = np.arange(5.0)
    np.testing.assert_array_equal(f(x, np.array([0, -1, 4])), [0, 4, 4])
    with pytest.raises(IndexError, match="7"):
        f(x, np.array([0, 7, 1]))
    with pytest.raises(IndexError, match="-6"):
        f(x, np.array([0, -6, 1]))


def test_an_index_error_leaves_state_as_it_was():
    w = gx.tensor([1.0, 2.0])

    @gx.compile
    def f(x, i):
        w.assign(w * 2)
        return x[i] + w.sum()

    with pytest.raises(IndexError):
        f(np.arange(3.0), np.array([9]))
    np.testing.assert_array_equal(w, [1, 2])


LEAK = []


def test_leaked_tracers():
    def leak_to_list(x):
        LEAK.append(x * 2)
        return x

    with pytest.raises(TraceError, match=r"outlives its trace.*list"):
        gx.compile(leak_to_list)(np.ones(2))
    leaked = LEAK.pop()
    with pytest.raises(TraceError, match="after its trace ended"):
        gx.compile(lambda x: x + leaked)(np.ones(2))

    def leak_to_global(x):
        global LEAKED  # noqa: PLW0603
        LEAKED = x + 1
        return x

    with pytest.raises(TraceError, match="global variable 'LEAKED'"):
        gx.compile(leak_to_global)(np.ones(2))


def test_numpy_array_updated_in_place_by_a_traced_value():
    def f(x):
        total = np.zeros(3)
        total += x
        return total

    with pytest.raises(StateError, match="in place"):
        gx.compile(f)(np.ones(3))


def test_compiled_functions_nest_and_methods_compile():
    inner = gx.compile(lambda x: x * 3)
    outer = gx.compile(lambda x: inner(x) + 1)
    np.testing.assert_array_equal(outer(np.ones(2)), [4, 4])
    assert inner.stats.compiles == 0

    class Scaler:
        def __init__(self, k):
            self.k = gx.tensor(k)

        @gx.compile
        def apply(self, x):
            return x * self.k

    assert float(Scaler(2.0).apply(np.float32(3))) == 6
    assert float(Scaler(5.0).apply(np.float32(3))) == 15


def test_many_threads_call_one_function():
    from concurrent.futures import ThreadPoolExecutor

    total = gx.tensor(np.zeros(()))

    @gx.compile
    def pure(x):
        return np.exp(x).sum(axis=1)

    @gx.compile
    def count(x):
        total.assign(total + x.sum())

    x = RNG.standard_normal((50, 40))
    expected = pure(x)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(pure, [x] * 200))
        list(pool.map(count, [np.ones(1)] * 200))
    assert all((r == expected).all() for r in results)
    assert float(total) == 200
    assert pure.stats.compiles == 1


def test_a_captured_array_is_a_snapshot_and_check_tells_when_it_changed(monkeypatch):
    table = np.arange(3.0)
    f = gx.compile(lambda x: x + table)
    f(np.zeros(3))
    table[0] = 9
    assert f(np.zeros(3))[0] == 0
    monkeypatch.setenv("GRAPHC", "check")
    g = gx.compile(lambda x: x * table)
    g(np.ones(3))
    table[1] = 9
    with pytest.raises(StateError, match="captured as a constant"):
        g(np.ones(3))


def test_stop_after_says_so(monkeypatch):
    monkeypatch.setenv("GRAPHC", "stop-after=simplify")
    with pytest.raises(gx.GraphcError, match="stop-after=simplify"):
        gx.compile(lambda x: x + 1)(np.ones(2))


def test_variants_of_one_signature_are_bounded():
    k = 0

    @gx.compile
    def f(x):
        return x + k

    for _ in range(40):
        k += 1
        assert f(np.zeros(1))[0] == k
    assert f.stats.compiles == 40
    assert sum(map(len, f._variants.values())) <= 16
