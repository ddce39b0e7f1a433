"""Native calls: every reason to leave them, what they own and give back, and that they agree with calls through Python."""

from __future__ import annotations

import copy
import gc
import random
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.errors import BoundsError, GraphcError
from graphc.frontend import fastcall
from graphc.frontend.compile import CompiledFunction
from graphc.frontend.variant import Variant
from graphc.runtime import callpath

pytestmark = pytest.mark.skipif(not callpath.layout_is_known(), reason="no native calls on this Python")

FACTOR = 2.0


class Counter:
    """Calls that went through Python."""

    def __init__(self) -> None:
        self.number = 0


@contextmanager
def python_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    counter = Counter()
    real = Variant.call

    def call(self: Variant, *args: Any) -> Any:
        counter.number += 1
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Variant, "call", call)
        yield counter


def axpy(x: Any, y: Any) -> Any:
    return x * 2 + y


def arrays(shape: Any = (4,), dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape), np.ones(shape, dtype)


def went_native(monkeypatch: pytest.MonkeyPatch, f: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    with python_calls(monkeypatch) as counter:
        f(*args, **kwargs)
    return counter.number == 0


def test_the_second_call_is_native_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    f = gx.compile(axpy)
    x, y = arrays()
    f(x, y)
    with python_calls(monkeypatch) as counter:
        for _ in range(10):
            np.testing.assert_array_equal(f(x, y), x * 2 + y)
    assert counter.number == 0
    assert f.stats.calls == 11
    assert isinstance(f, CompiledFunction) and f.__name__ == "axpy" and f.__wrapped__ is axpy


def test_each_difference_of_an_argument_leaves_the_native_call(monkeypatch: pytest.MonkeyPatch) -> None:
    f = gx.compile(axpy)
    x, y = arrays((4, 6))
    f(x, y)
    assert went_native(monkeypatch, f, x, y)
    memory = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(np.float32).reshape(4, 6)
    others = {
        "extent": x[:3],
        "rank": x[0],
        "dtype": x.astype(np.float64),
        "transposed": np.asfortranarray(x),
        "strided": np.repeat(x, 2, axis=1)[:, ::2],
        "broadcast": np.broadcast_to(x[0], (4, 6)),
        "unaligned": unaligned,
        "byte order": x.astype(">f4"),
        "tensor": gx.tensor(x),
        "float": 1.5,
        "integer": 3,
        "bool": True,
        "scalar": np.float32(2.5),
        "subclass": x.view(type("Sub", (np.ndarray,), {})),
    }
    for name, other in others.items():
        want = gx.compile(axpy)
        with monkeypatch.context() as patch:
            patch.setenv("GRAPHC_NATIVE_CALL", "off")
            want = gx.compile(axpy)
        given = y[0] if name == "rank" else y[:3] if name == "extent" else y
        with python_calls(monkeypatch) as counter:
            got = f(other, given)
        assert counter.number == 1, name
        expected = want(other, given)
        assert type(got) is type(expected), name
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected), err_msg=name)
    assert went_native(monkeypatch, f, x, y)


def test_keywords_and_wrong_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    f = gx.compile(axpy)
    x, y = arrays()
    f(x, y)
    assert not went_native(monkeypatch, f, x, y=y)
    assert went_native(monkeypatch, f, *(x, y), **{})
    for bad in [(x,), (x, y, y), ()]:
        with pytest.raises(GraphcError):
            f(*bad)
    with pytest.raises(GraphcError):
        f(x, z=y)


def test_guards_on_scalars(monkeypatch: pytest.MonkeyPatch) -> None:
    scale = 3.0

    @gx.compile
    def f(x: Any) -> Any:
        return x * scale + FACTOR

    x, _ = arrays()
    f(x)
    assert went_native(monkeypatch, f, x)
    scale = 4.0
    assert not went_native(monkeypatch, f, x)
    np.testing.assert_array_equal(f(x), x * 4 + 2)
    assert went_native(monkeypatch, f, x)
    monkeypatch.setitem(globals(), "FACTOR", 5.0)
    np.testing.assert_array_equal(f(x), x * 4 + 5)
    assert went_native(monkeypatch, f, x)
    scale = float("4.0")  # equal, another object
    compiles = f.stats.compiles
    assert not went_native(monkeypatch, f, x)
    assert went_native(monkeypatch, f, x)
    assert f.stats.compiles == compiles
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    scale = 3.0
    np.testing.assert_array_equal(f(x), x * 3 + 2)


def test_structure_version_and_gradient_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    dropout = nn.Dropout(0.5)
    f = gx.compile(axpy)
    x, y = arrays()
    f(x, y)
    dropout.eval()  # bumps the process-wide version
    assert not went_native(monkeypatch, f, x, y)
    assert went_native(monkeypatch, f, x, y)
    with gx.no_grad():
        assert not went_native(monkeypatch, f, x, y)
        assert went_native(monkeypatch, f, x, y)
    assert went_native(monkeypatch, f, x, y)


def test_a_call_while_tracing_is_inlined() -> None:
    inner = gx.compile(axpy)
    x, y = arrays()
    inner(x, y)
    inner(x, y)
    calls = inner.stats.calls
    outer = gx.compile(lambda a, b: inner(a, b) * 3)
    np.testing.assert_array_equal(outer(x, y), (x * 2 + y) * 3)
    assert inner.stats.calls == calls


def test_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    f = gx.compile(axpy)
    x, y = (gx.tensor(a) for a in arrays())
    f(x, y)
    with python_calls(monkeypatch) as counter:
        result = f(x, y)
    assert counter.number == 0
    assert type(result) is gx.Tensor and not result.requires_grad and result.grad is None
    np.testing.assert_array_equal(np.asarray(result), np.asarray(x) * 2 + np.asarray(y))
    result += 1  # a tensor like any other
    x.requires_grad = True
    f(x, y).sum().backward()
    np.testing.assert_array_equal(np.asarray(x.grad), np.full(4, 2.0))


def test_results_of_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    @gx.compile
    def f(x: Any, flag: Any, y: Any) -> Any:
        total = x.sum()
        return total, x + y, x, flag, total, None, "name", y

    x, _ = arrays()
    first = f(x, True, 2.5)
    with python_calls(monkeypatch) as counter:
        second = f(x, True, 2.5)
    assert counter.number == 0
    assert [type(a) for a in first] == [type(a) for a in second]
    assert type(second[0]) is np.float32 and second[4] is second[0] and second[2] is x and second[7] == 2.5
    np.testing.assert_array_equal(second[1], x + np.float32(2.5))
    assert f(x, False, 2.5)[3] is False
    assert gx.compile(lambda x: ())(x) == ()
    for container in (lambda x: [x + 1], lambda x: {"a": x + 1}, lambda x: ((x + 1,),)):
        g = gx.compile(container)
        g(x)
        assert not went_native(monkeypatch, g, x)


def test_held_results_are_never_written_again() -> None:
    f = gx.compile(axpy)
    x, y = arrays()
    kept = [f(x + i, y) for i in range(20)]
    for i, result in enumerate(kept):
        np.testing.assert_array_equal(result, (x + i) * 2 + y)
    view = f(x, y)[1:]
    data = memoryview(f(x, y))
    for i in range(10):
        f(x + i, y)
    np.testing.assert_array_equal(view, (x * 2 + y)[1:])
    np.testing.assert_array_equal(np.asarray(data), x * 2 + y)
    result = x
    for _ in range(10):
        result = f(result, y)
    np.testing.assert_array_equal(result, x * 1024 + 1023)


def test_a_result_that_was_changed_is_not_used_again() -> None:
    f = gx.compile(axpy)
    x, y = arrays()
    changes: list[Callable[[np.ndarray], Any]] = [
        lambda a: a.setflags(write=False),
        lambda a: setattr(a, "shape", (2, 2)),
        lambda a: setattr(a, "dtype", np.int32),
        lambda a: a.resize((9,), refcheck=False),
    ]
    for change in changes:
        for _ in range(3):
            f(x, y)
        change(f(x, y))
        for _ in range(4):
            result = f(x, y)
            assert result.shape == (4,) and result.dtype == np.float32 and result.flags.writeable
            np.testing.assert_array_equal(result, x * 2 + y)
            del result
    result = f(x, y)
    reference = weakref.ref(result)
    del result
    results = [f(x, y) for _ in range(3)]
    assert all(reference() is not r for r in results)


@pytest.mark.parametrize("size", [0, 1, 7, 2000, 300_000])
def test_sizes(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    f = gx.compile(axpy)
    x, y = arrays((size,))
    f(x, y)
    with python_calls(monkeypatch) as counter:
        for _ in range(5):
            np.testing.assert_array_equal(f(x, y), x * 2 + y)
    assert counter.number == 0


def test_failures_come_from_python_with_the_line() -> None:
    @gx.compile
    def f(x: Any, i: Any) -> Any:
        return x[i]

    x, _ = arrays()
    f(x, np.array([1, 2]))
    f(x, np.array([1, 2]))
    calls = f.stats.calls
    for _ in range(3):
        with pytest.raises(BoundsError, match=r"test_callpath\.py"):
            f(x, np.array([1, 9]))
    np.testing.assert_array_equal(f(x, np.array([3, 0])), x[[3, 0]])
    assert f.stats.calls == calls + 4


def test_nothing_leaks() -> None:
    f = gx.compile(lambda x, y, s: (x * 2 + y, x.sum(), s, 1.5))
    x, y = arrays()
    marker = ("a", "b")
    g = gx.compile(axpy)
    tensors = gx.tensor(x), gx.tensor(y)
    watched = [x, y, x.dtype, None, True, f, g, *tensors, gx.Tensor, np.ndarray, marker, np.float32]

    def work(count: int) -> None:
        for _ in range(count):
            f(x, y, "word")
            g(x, y)
            g(*tensors)
            g(x, 2.5)

    work(100)
    before = [sys.getrefcount(thing) for thing in watched]
    work(10_000)
    after = [sys.getrefcount(thing) for thing in watched]
    assert [b - a for a, b in zip(before, after, strict=True)] == pytest.approx([0] * len(watched), abs=5)
    tracemalloc.start()
    try:
        work(1_000)
        gc.collect()
        start = tracemalloc.get_traced_memory()[0]
        work(10_000)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - start < 4096
    finally:
        tracemalloc.stop()


def test_a_function_and_what_its_entries_hold_can_die() -> None:
    f = gx.compile(lambda x, y: x * 2 + y)
    x, y = arrays()
    for _ in range(4):
        result = f(x, y)
    held = weakref.ref(f)
    kept = weakref.ref(result)
    del f, result
    gc.collect()
    assert held() is None and kept() is None


def test_many_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    f = gx.compile(lambda x: x + 1)
    xs = [np.zeros(n, np.float32) for n in range(1, 25)]
    for _ in range(2):
        for x in xs:
            np.testing.assert_array_equal(f(x), x + 1)
    assert went_native(monkeypatch, f, xs[-1])
    assert f.stats.calls == 49 and f.stats.compiles == 24


@pytest.mark.parametrize("size", [4, 400_000])
def test_threads(size: int) -> None:
    """Short kernels keep the interpreter lock, long ones meet in one entry: the second call then goes through Python."""
    f = gx.compile(lambda x, y: np.tanh(x) * 2 + y)
    x, y = arrays((size,))
    f(x, y)
    faults: list[str] = []
    rounds = 2000 if size == 4 else 20

    def work(seed: int) -> None:
        mine = x + np.float32(seed)
        want = f(mine, y).copy()
        for _ in range(rounds):
            if not np.array_equal(f(mine, y), want):
                faults.append(f"thread {seed}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert f.stats.calls == 1 + 4 * (rounds + 1)


def test_methods_copies_and_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        def __init__(self) -> None:
            self.gain = 3

        @gx.compile
        def double(x: Any) -> Any:
            return x * 2

    x, _ = arrays()
    f = Model.double
    f(x)
    assert copy.copy(f) is f and copy.deepcopy([f])[0] is f
    monkeypatch.setenv("GRAPHC_NATIVE_CALL", "off")
    slow = gx.compile(axpy)
    slow(x, x)
    assert type(slow) is CompiledFunction
    assert not went_native(monkeypatch, slow, x, x)


def test_an_instance_without_entries_goes_through_python() -> None:
    bare = object.__new__(type(gx.compile(axpy)))
    with pytest.raises(AttributeError):
        bare(1)


def test_an_unknown_layout_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(callpath, "_array_is_known", lambda array: False)
        assert not callpath.layout_is_known.__wrapped__()
    with monkeypatch.context() as patch:
        patch.setattr(callpath.np, "ndarray", type("Other", (), {}))
        assert not callpath._arrays_are_known()
    assert callpath.slot_offset(gx.Tensor, "shape") is None
    monkeypatch.setattr(fastcall, "layout_is_known", lambda: False)
    assert fastcall._native_base.__wrapped__(axpy) is None


def test_any_arguments_give_what_python_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random argument kinds in random order, against the same function without native calls: equal results, equal errors."""

    def function(x: Any, y: Any, mode: Any) -> Any:
        z = x * 2 if mode else x + y
        return z, y if mode == 1 else z.sum()

    fast = gx.compile(function)
    with monkeypatch.context() as patch:
        patch.setenv("GRAPHC_NATIVE_CALL", "off")
        slow = gx.compile(function)
    draw = random.Random(7)
    base = np.arange(6, dtype=np.float32)
    pool: list[Any] = [
        *(base, base[::2], base[::-1], base.astype(np.float64), base.reshape(2, 3), base.reshape(2, 3).T, base[:0]),
        *(base.astype(np.int64), base > 2, np.float32(2), np.float64(3), 1.5, -0.0, 3, True, None, "text"),
        *(
            gx.tensor(base),
            gx.tensor(base, requires_grad=True),
            np.array(2.0),
            np.array(["a"]),
            object(),
            [base],
            {"a": base},
        ),
        *(base.astype(">f4"), np.asfortranarray(base.reshape(2, 3)), np.ma.masked_array(base)),
    ]

    def outcome(f: Any, args: tuple[Any, ...]) -> Any:
        try:
            return [(type(r), np.asarray(r)) for r in f(*args)]
        except (TypeError, ValueError, GraphcError, AttributeError) as fault:
            return type(fault)

    for _ in range(600):
        args = (draw.choice(pool), draw.choice(pool), draw.choice([0, 1, True, False, 1.0, "s", None]))
        got, want = outcome(fast, args), outcome(slow, args)
        assert type(got) is type(want), (args, got, want)
        if isinstance(want, type):
            assert got is want, args
            continue
        for (kind, value), (want_kind, want_value) in zip(got, want, strict=True):
            assert kind is want_kind, args
            np.testing.assert_array_equal(value, want_value)
    assert fast.stats.calls == slow.stats.calls
