"""Tracing a function inside of another into a closed graph: captures, writes, effects, gradients inside."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import GradientError, StateError, TraceError
from graphc.frontend import context
from graphc.frontend.subtrace import Argument, Sub, argument_of, subtrace
from graphc.frontend.tensor import Tensor
from graphc.interp import evaluate
from graphc.ir.types import TOKEN

Array = np.ndarray[Any, Any]


def run(sub: Sub, *arguments: Any) -> tuple[Array, ...]:
    """The graph's outputs on arguments, captures read now."""
    captured = [t._array for t in sub.captures]
    return evaluate(sub.graph, [np.asarray(x) for x in arguments] + captured + [None] * sub.effects)


def like(x: Any) -> Argument:
    return argument_of(x)


def test_arguments_and_results() -> None:
    x = np.arange(3.0)
    sub = subtrace(lambda a, b: {"sum": a + b, "both": (a * b, None, "text", 2)}, [like(x), like(1.0)])
    assert [r.index for r in sub.results] == [0, None, None, 1, 2]
    assert sub.paths == ("['both'][0]", "['both'][1]", "['both'][2]", "['both'][3]", "['sum']")
    product, two, total = run(sub, x, 4.0)
    np.testing.assert_array_equal(product, x * 4)
    np.testing.assert_array_equal(total, x + 4)
    assert two == 2 and sub.results[3].weak and sub.captures == ()
    assert sub.outputs == 3 and sub.arguments == 2


def test_arguments_with_structure() -> None:
    leaves, _, structure = gx.frontend.pytree.flatten((({"w": np.ones(2), "b": 1.0},), {"scale": np.float32(3)}))
    sub = subtrace(lambda p, scale: (p["w"] + p["b"]) * scale, [like(x) for x in leaves], structure=structure)
    np.testing.assert_array_equal(run(sub, *leaves)[0], 6 * np.ones(2))


def test_captures_of_tensors_arrays_and_numbers_in_dynamic_mode() -> None:
    w, large, small = gx.tensor([1.0, 2.0]), np.arange(100.0), np.array([3.0, 4.0])
    sub = subtrace(lambda a: (a * w, large * a[0], a + small, 5 * a), [like(np.ones(2, np.float32))])
    assert len(sub.captures) == 2 and sub.captures[0] is w
    np.testing.assert_array_equal(sub.captures[1]._array, large)
    assert [r.kind for r in sub.results] == ["tensor", "ndarray", "ndarray", "ndarray"]
    found = run(sub, np.ones(2, np.float32))
    for value, expected in zip(found, ([1, 2], large, [4, 5], [5, 5]), strict=True):
        np.testing.assert_array_equal(value, expected)
    w.assign(gx.tensor([7.0, 8.0]))
    np.testing.assert_array_equal(run(sub, np.ones(2, np.float32))[0], [7, 8])


def test_captures_of_an_outer_trace_and_of_a_trace_within() -> None:
    seen: list[Any] = []

    @gx.compile
    def f(x: Any, y: Any) -> Any:
        product = x * y

        def outer(a: Any) -> Any:
            inner = subtrace(lambda b: b + a + product, [like(a)])
            seen.append((inner.graph, [t is product for t in inner.captures]))
            return a * len(inner.captures)

        sub = subtrace(outer, [like(x)])
        seen.append((sub.graph, sub.captures[0] is product if sub.captures else None))
        return product

    np.testing.assert_array_equal(f(np.full(2, 3.0), np.full(2, 5.0)), [15, 15])
    (inner_graph, flags), (graph, captured) = seen
    assert flags == [False, True] and len(inner_graph.inputs) == 3
    assert captured is None and len(graph.inputs) == 1
    np.testing.assert_array_equal(evaluate(inner_graph, [np.ones(2), 2 * np.ones(2), 4 * np.ones(2)])[0], [7, 7])


def test_weak_numbers_stay_weak() -> None:
    x = np.ones(3, np.float32)
    sub = subtrace(lambda i, s, a: (a * i, a + s, i + 1, s * 2, i / 2, i > 1), [like(2), like(0.5), like(x)])
    assert [t.dtype.name for t in (v.type for v in sub.graph.outputs)] == ["f32", "f32", "i64", "f64", "f64", "bool"]
    assert [r.weak for r in sub.results] == [False, False, True, True, True, False]
    strong = subtrace(lambda i, a: a * i, [like(np.int64(2)), like(x)])
    assert strong.graph.outputs[0].dtype.name == "f64"


def test_writes_are_outputs_and_are_handed_on() -> None:
    total, other = gx.tensor([1.0, 2.0]), gx.tensor([5.0])

    def body(a: Any) -> Any:
        total.assign(total + a)
        total[0] = 9.0
        return total * other

    sub = subtrace(body, [like(np.float32(3))])
    np.testing.assert_array_equal(total.numpy(), [1, 2])
    (write,) = sub.writes
    assert sub.captures[write.capture] is total and not write.detached and write.index == 1
    found = run(sub, np.float32(3))
    np.testing.assert_array_equal(found[0], [45, 25])
    sub.write_back([Tensor(found[1])])
    np.testing.assert_array_equal(total.numpy(), [9, 5])


def test_a_write_back_of_the_same_value_is_none() -> None:
    t = gx.tensor([1.0])
    assert subtrace(lambda: t.assign(t), []).writes == ()


def test_random_state_is_written() -> None:
    generator = gx.random.Generator(3)
    sub = subtrace(lambda: generator.uniform((4,)), [])
    expected = gx.random.Generator(3)
    for _ in range(2):
        numbers, state = run(sub)
        np.testing.assert_array_equal(numbers, expected.uniform((4,)).numpy())
        sub.write_back([Tensor(state)])


def test_a_write_beside_a_view_of_the_same_memory_is_an_error() -> None:
    whole = gx.tensor([1.0, 2.0, 3.0])
    part = whole[1:]

    def body() -> Any:
        whole[0] = 5.0
        return part + 1

    with pytest.raises(StateError, match="uses a view of the same memory"):
        subtrace(body, [])

    @gx.compile
    def f(x: Any) -> Any:
        row = x[0]

        def inner() -> Any:
            x[0] = 0.0
            return row * 1

        return subtrace(inner, [])

    with pytest.raises(StateError, match="uses a view of the same memory"):
        f(np.ones((2, 2)))


def test_views_inside_follow_writes() -> None:
    whole = gx.tensor([1.0, 2.0, 3.0])

    def body() -> Any:
        part = whole[1:]
        part[0] = 7.0
        before = part * 1
        whole[2] = 8.0
        return before, part

    sub = subtrace(body, [])
    before, after, new = run(sub)
    np.testing.assert_array_equal(before, [7, 3])
    np.testing.assert_array_equal(after, [7, 8])
    np.testing.assert_array_equal(new, [1, 7, 8])


def test_effects_hang_on_a_token(capfd: Any) -> None:
    def body(a: Any) -> Any:
        gx.debug.print("one {}", a)
        gx.debug.print("two {}", a)
        return a

    sub = subtrace(body, [like(np.float64(1))])
    assert sub.effects and sub.graph.inputs[-1] == TOKEN and sub.graph.outputs[-1].type == TOKEN
    run(sub, np.float64(4))
    assert capfd.readouterr().out.split() == ["one", "4.0", "two", "4.0"]


def test_gradients_inside() -> None:
    w = gx.tensor([2.0, 3.0], requires_grad=True)
    sub = subtrace(gx.value_and_grad(lambda b: (b * b * w).sum()), [like(np.ones(2, np.float32))])
    a = np.array([4.0, 5.0], np.float32)
    value, gradient = run(sub, a)
    assert value == 2 * 16 + 3 * 25
    np.testing.assert_array_equal(gradient, [16, 30])
    names = {n.op.name for n in sub.graph.nodes}
    assert "stop_gradient" not in names

    def by_tape(a: Any) -> Any:
        leaf = gx.asarray(a).requires_grad_()
        (leaf * leaf * w).sum().backward()
        return leaf.grad

    np.testing.assert_array_equal(run(subtrace(by_tape, [like(a)]), a)[0], [16, 30])
    with pytest.raises(GradientError, match=r"\.grad of a tensor from outside"):
        subtrace(lambda: w.grad, [])


def test_what_is_cut_off_the_tape_is_cut_off_in_the_graph() -> None:
    w = gx.tensor([2.0])

    def body(a: Any) -> Any:
        with gx.no_grad():
            b = a * w
        return b + w.detach()

    graph = subtrace(body, [like(np.ones(1, np.float32))]).graph
    assert [n.op.name for n in graph.nodes].count("stop_gradient") == 2
    with gx.no_grad():
        graph = subtrace(lambda a: a * w, [like(np.ones(1, np.float32))]).graph
    assert "stop_gradient" not in {n.op.name for n in graph.nodes}


def test_leaks_and_strangers() -> None:
    kept: list[Any] = []
    with pytest.raises(TraceError, match="outlives its trace: it is held by a list"):
        subtrace(kept.append, [like(1.0)], name="the body")
    with pytest.raises(TraceError, match="is used after its trace ended"):
        subtrace(lambda: kept[0] * 2, [])
    assert context.trace.get() is None


def test_a_failing_body_leaves_nothing_behind() -> None:
    t = gx.tensor([1.0])

    def body() -> Any:
        t.assign(t + 1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        subtrace(body, [])
    assert t.item() == 1 and context.trace.get() is None
    with pytest.raises(gx.errors.TracerConversionError, match="truth value"):
        subtrace(lambda a: 1 if a else 2, [like(1.0)])
    gc.collect()
