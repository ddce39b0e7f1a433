"""Host calls, custom ops and printing, in dynamic mode and in compiled code."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import hosts
from graphc.artifact import from_bytes, to_bytes
from graphc.codegen.compiler import compile_graph
from graphc.errors import ExportError, GradientError, HostCallError, OptionError, StructureError
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph, constant, input_value, make
from graphc.ir.op import GraphBuilder
from graphc.ir.types import TOKEN, TensorType
from graphc.runtime import cache
from graphc.runtime.executable import Executable

BOTH = pytest.mark.parametrize("run", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])
SEEN: list[Any] = []
X = np.array([3.0, 1.0, 2.0])


def remember(*xs: Any) -> None:
    SEEN.append(xs)


def halves(x: Any) -> Any:
    return x[: len(x) // 2], x[len(x) // 2 :].astype(np.float32)


def fail(x: Any) -> None:
    if x[0] > 1:
        raise ZeroDivisionError("on purpose")


def wrong(x: Any) -> Any:
    return x.astype(np.float32)


@gx.custom_op
def cube(x: Any) -> Any:
    """x to the third."""
    return x**3


@cube.defvjp
def _(ct: Any, y: Any, x: Any) -> Any:
    return 3 * ct * x**2


def _two_vjp(cts: Any, ys: Any, x: Any, y: Any) -> Any:
    assert isinstance(cts, tuple) and isinstance(ys, tuple)
    return 2 * cts[0], gx.broadcast_to(cts[1][:, None], y.shape)


@gx.custom_op(result=lambda x, y: [x, gx.ShapeDtype(y.shape[:1], y.dtype)], vjp=_two_vjp)
def two(x: Any, y: Any) -> Any:
    """(2 x, sums of y's rows)"""
    return 2 * x, y.sum(axis=1)


@gx.custom_op
def opaque(x: Any) -> Any:
    return x + 1


@pytest.fixture(autouse=True)
def _clear() -> None:
    SEEN.clear()


# -- host calls ----------------------------------------------------------------------------------------------------------


@BOTH
def test_results(run: Any) -> None:
    def f(x: Any) -> Any:
        whole = gx.host_call(np.sort, gx.ShapeDtype(x.shape, x.dtype), x)
        parts = gx.host_call(halves, [((1,), x.dtype), gx.ShapeDtype((2,), np.float32)], whole * 2)
        assert gx.host_call(remember, None, x, 7) is None
        return whole, *parts

    f = run(f)
    for _ in range(2):
        whole, first, second = f(X)
        np.testing.assert_array_equal(whole, [1, 2, 3])
        np.testing.assert_array_equal(first, [2])
        np.testing.assert_array_equal(second, [4, 6])
        assert second.dtype == np.float32
    assert len(SEEN) == 2
    np.testing.assert_array_equal(SEEN[0][0], X)
    assert SEEN[0][1] == 7


@BOTH
def test_arguments_are_kept_safely(run: Any) -> None:
    """What a function keeps is its own memory, also when native code has gone on."""

    def f(x: Any) -> Any:
        for k in range(3):
            gx.host_call(remember, None, x * (k + 1))
        return x

    f = run(f)
    f(X)
    f(X + 1)
    for k, (x,) in enumerate(SEEN):
        np.testing.assert_array_equal(x, (X + k // 3) * (k % 3 + 1))
        x[...] = 0


@BOTH
def test_order_and_presence_of_effects(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Effects stand in program order, though their results are not used and calls are equal."""

    def f(x: Any) -> Any:
        gx.debug.print("first {:.1f}", x)
        gx.host_call(_say, None, x)
        gx.debug.print("first {:.1f}", x)
        gx.host_call(_say, None, x)
        gx.debug.print("{1} {0:.2e} {{}}", x.sum(), np.int32(3))
        return 1.0

    run(f)(X[:1])
    said = capsys.readouterr().out.splitlines()
    assert said == ["first [3.0]", "said [3.]", "first [3.0]", "said [3.]", "3 3.00e+00 {}"]


def _say(x: Any) -> None:
    print("said", x)


@pytest.mark.parametrize(
    ("template", "count"), [("{}", 0), ("{} {}", 1), ("{name}", 1), ("{", 0), ("{2}", 1), ("x", 1)]
)
def test_templates_are_checked(template: str, count: int) -> None:
    with pytest.raises(OptionError, match=r"debug.print[\s\S]*test_extension.py"):
        gx.debug.print(template, *[1.0] * count)


@BOTH
def test_wrong_results(run: Any) -> None:
    f = run(lambda x: gx.host_call(wrong, x, x))
    with pytest.raises(HostCallError, match=r"wrong gave float32\[3\], declared is float64\[3\]"):
        f(X)
    f = run(lambda x: gx.host_call(halves, x, x))
    with pytest.raises(HostCallError, match=r"halves gave 2 results, declared are 1"):
        f(X)
    with pytest.raises(StructureError, match="no type of a result"):
        run(lambda x: gx.host_call(halves, 3, x))(X)
    with pytest.raises(StructureError, match="cannot be called"):
        run(lambda x: gx.host_call(x, None, x))(X)


def test_the_message_has_the_users_line() -> None:
    with pytest.raises(HostCallError, match=r"at .*test_extension.py:\d+"):
        gx.compile(lambda x: gx.host_call(wrong, x, x))(X)


@BOTH
def test_an_exception_comes_out_with_its_traceback(run: Any) -> None:
    f = run(lambda x: gx.host_call(fail, None, x))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="on purpose") as caught:
            f(X)
        assert caught.traceback[-1].name == "fail"
    f(X * 0)


def test_an_interrupt_comes_out() -> None:
    def interrupt(x: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gx.compile(lambda x: gx.host_call(interrupt, None, x))(X)


def test_no_state_is_written_when_a_call_raises() -> None:
    """Host calls come before the first write, also those that see the new value."""
    w, v = gx.tensor(np.zeros(3)), gx.tensor(np.zeros(3))

    @gx.compile
    def step(x: Any) -> Any:
        w.assign(w + gx.asarray(x))
        gx.host_call(fail, None, w)
        v.assign(v + 1.0)
        w.assign(w * 2.0)
        gx.host_call(fail, None, v)
        return w

    step(np.full(3, 0.5))
    assert w.tolist() == [1.0] * 3 and v.tolist() == [1.0] * 3
    for value in (1.0, 0.0):  # the first call raises, then the second
        with pytest.raises(ZeroDivisionError):
            step(np.full(3, value))
        assert w.tolist() == [1.0] * 3 and v.tolist() == [1.0] * 3


def test_gradients_do_not_pass_silently() -> None:
    w = gx.tensor(X, requires_grad=True)
    with pytest.raises(GradientError, match=r"host call of numpy:sort has no derivative[\s\S]*custom_op"):
        gx.host_call(np.sort, w, w).sum().backward()
    (gx.host_call(np.sort, w, w.detach()) * w).sum().backward()
    np.testing.assert_array_equal(w.grad, [1, 2, 3])


def test_a_whole_training_step() -> None:
    w = gx.tensor(X.copy(), requires_grad=True)

    @gx.compile
    def step() -> Any:
        loss = cube(w).sum()
        w.grad = None
        loss.backward()
        gx.host_call(remember, None, loss, w.grad)
        with gx.no_grad():
            w.assign(w - 0.01 * w.grad)
        return loss

    before = X.copy()
    for _ in range(3):
        loss = step()
        np.testing.assert_allclose(loss, (before**3).sum())
        np.testing.assert_allclose(SEEN[-1][1], 3 * before**2)
        before = before - 0.03 * before**2
        np.testing.assert_allclose(w, before)


def test_several_threads() -> None:
    """Each call gets its own exception."""

    def check(x: Any) -> None:
        raise ValueError(str(int(x)))

    f = gx.compile(lambda x: gx.host_call(check, None, x))
    faults: list[str] = []

    def work(number: int) -> None:
        for _ in range(50):
            try:
                f(np.int64(number))
            except ValueError as error:
                if str(error) != str(number):
                    faults.append(f"{number}: {error}")

    with pytest.raises(ValueError, match="5"):
        f(np.int64(5))
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_a_host_function_may_call_the_function_again() -> None:
    def again(x: Any) -> Any:
        return np.float64(0.0) if x <= 0 else np.asarray(f(x - 1) + 1)

    f = gx.compile(lambda x: gx.host_call(again, gx.ShapeDtype((), np.float64), x))
    assert f(np.float64(4)) == 4


# -- names ---------------------------------------------------------------------------------------------------------------


def test_names() -> None:
    assert hosts.name_of(np.linalg.cholesky) == "numpy.linalg:cholesky"
    assert hosts.name_of(np.sin) == "numpy:sin"
    assert hosts.name_of(halves) == f"{__name__}:halves"
    assert hosts.name_of(cube) == f"{__name__}:cube"

    def closure() -> None:
        pass

    name = hosts.name_of(closure)
    assert hosts.is_local(name) and hosts.name_of(closure) == name
    assert hosts.resolve(str(name)) is closure
    text, alive = str(name), weakref.ref(closure)
    del name, closure
    gc.collect()
    assert alive() is None
    with pytest.raises(HostCallError, match="is gone"):
        hosts.resolve(text)


def test_closures_live_as_long_as_the_compiled_function() -> None:
    def make() -> Any:
        held = X + 1
        return lambda x: x + held

    def caller(function: Any) -> Any:
        return gx.compile(lambda x: gx.host_call(hosts.resolve(function), x, x))

    inner = make()
    name = hosts.name_of(inner)
    f = caller(str(name))
    f(X)
    del name
    alive = weakref.ref(inner)
    del inner
    gc.collect()
    assert alive() is not None
    np.testing.assert_array_equal(f(X), 2 * X + 1)
    del f
    gc.collect()
    assert alive() is None


def test_only_named_functions_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CACHE", "on")
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    cached = cache.opened()
    assert cached is not None
    gx.compile(lambda x: gx.host_call(lambda y: y, x, x))(X)
    assert not list(cached.directory.iterdir())
    for _ in range(2):
        np.testing.assert_array_equal(gx.compile(lambda x: gx.host_call(np.sort, x, x * 3))(X), [3, 6, 9])
        assert len(list(cached.directory.iterdir())) == 1


def test_artifacts_keep_host_calls() -> None:
    artifact = gx.compile(lambda x: gx.host_call(np.sort, x, x)).inspect(X).compiled.artifact
    (call,) = artifact.hosts
    assert (call.function, call.operands, call.results) == ("numpy:sort", (("f64", (3,)),), (("f64", (3,)),))
    again = from_bytes(to_bytes(artifact))
    assert again == artifact
    np.testing.assert_array_equal(Executable(again).run([X])[0], [1, 2, 3])


def test_inspect_lists_host_calls() -> None:
    def f(x: Any) -> Any:
        gx.debug.print("{}", x)
        return cube(x) + gx.host_call(np.sort, x, x)

    report = gx.compile(f).inspect(X)
    assert {row.function for row in report.host_calls} == {"graphc:print", f"{__name__}:cube", "numpy:sort"}
    assert all(str(row.locations[0]).find("test_extension.py") >= 0 for row in report.host_calls)
    assert "numpy:sort" in str(report)
    assert not gx.compile(lambda x: x + 1).inspect(X).host_calls


# -- export --------------------------------------------------------------------------------------------------------------


def test_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's functions and printing are exported; others are refused."""

    @gx.compile
    def sorted_twice(x: Any) -> Any:
        gx.debug.print("x = {}", x)
        return gx.host_call(np.sort, x, x) * 2

    sorted_twice.export(tmp_path / "sorted_twice", X)
    script = "import numpy as np, sys, sorted_twice as m; print(m.sorted_twice(np.array([3., 1., 2.])))"
    script += "; assert not any(n.partition('.')[0] == 'graphc' for n in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout == "x = [3. 1. 2.]\n[2. 4. 6.]\n", done.stderr
    with pytest.raises(ExportError, match=r"test_extension:wrong, which an importer may not have"):
        gx.compile(lambda x: gx.host_call(wrong, gx.ShapeDtype((3,), np.float32), x)).export(tmp_path / "a", X)
    with pytest.raises(ExportError, match="a closure, which has no name"):
        gx.compile(lambda x: gx.host_call(lambda y: y, x, x)).export(tmp_path / "b", X)
    with pytest.raises(ExportError, match="test_extension:cube"):
        gx.compile(cube).export(tmp_path / "c", X)
    assert importlib.util.find_spec("a") is None


# -- custom ops ----------------------------------------------------------------------------------------------------------


@BOTH
def test_custom_op(run: Any) -> None:
    np.testing.assert_array_equal(run(lambda x: cube(x) + 1)(X), X**3 + 1)
    assert isinstance(run(cube)(gx.tensor(X)), gx.Tensor)
    np.testing.assert_allclose(run(gx.grad(lambda x: cube(x).sum()))(X), 3 * X**2)
    np.testing.assert_allclose(run(gx.grad(lambda x: (gx.grad(lambda y: cube(y).sum())(x) * X).sum()))(X), 6 * X * X)
    assert cube.__doc__ == "x to the third."


@BOTH
def test_custom_op_with_several_results(run: Any) -> None:
    y = np.arange(6.0).reshape(2, 3)

    def f(x: Any, y: Any) -> Any:
        a, b = two(x, y)
        return (a * X).sum() + (b * b).sum()

    np.testing.assert_allclose(run(f)(X, y), (2 * X * X).sum() + (y.sum(1) ** 2).sum())
    for k, expected in enumerate((2 * X, np.repeat(2 * y.sum(1)[:, None], 3, axis=1))):
        np.testing.assert_allclose(run(gx.grad(f, k))(X, y), expected)
    np.testing.assert_allclose(run(gx.grad(lambda x: two(x, y)[0].sum()))(X), [2, 2, 2])


def test_custom_op_under_the_tape_of_a_compiled_call() -> None:
    f = gx.compile(lambda x: cube(x).sum())
    x = gx.tensor(X, requires_grad=True)
    f(x).backward()
    np.testing.assert_allclose(x.grad, 3 * X**2)


def test_unused_and_equal_custom_ops() -> None:
    def count(x: Any) -> Any:
        SEEN.append(x)
        return x

    op = gx.custom_op(count)

    @gx.compile
    def f(x: Any) -> Any:
        op(x + 1)
        return op(x) * op(x)

    np.testing.assert_array_equal(f(X), X * X)
    assert len(SEEN) == 1


def test_custom_op_without_derivative() -> None:
    with pytest.raises(GradientError, match=r"opaque has no derivative[\s\S]*vjp="):
        gx.grad(lambda x: opaque(x).sum())(X)


@pytest.mark.parametrize(
    ("vjp", "match"),
    [
        (lambda ct, y, x: (ct, ct), "gives 2 cotangents for 1 operands"),
        (lambda ct, y, x: ct.sum(), r"gives f64\[\] for operand 0, which is f64\[3\]"),
    ],
)
def test_wrong_derivatives(vjp: Any, match: str) -> None:
    op = gx.custom_op(lambda x: x, vjp=vjp)
    with pytest.raises(GradientError, match=match):
        gx.grad(lambda x: op(x).sum())(X)


# -- within branches and loops ---------------------------------------------------------------------------------------------


def test_effects_in_loops_and_branches(capsys: pytest.CaptureFixture[str]) -> None:
    """Held graphs take and give tokens; the callback reaches them."""
    b = GraphBuilder()
    scalar, flag = TensorType(gx_dtype("i64"), ()), TensorType(gx_dtype("bool"), ())
    types = (TOKEN, scalar)
    token, i = input_value(0, TOKEN), input_value(1, scalar)
    odd = Graph(types, (make("debug_print", [token, i], template="odd {}").result,), "odd")
    even = Graph(types, (token,), "even")
    is_odd = b.equal(b.remainder(i, 2), 1)
    assert is_odd.type == flag
    said = make("cond", [is_odd, token, i], then=odd, else_=even).result
    body = Graph(types, (said, b.add(i, 1)), "body")
    more = Graph(types, (b.less(i, 5),), "more")
    loop = make("while_loop", [make("create_token").result, constant(np.int64(0))], cond=more, body=body)
    graph = Graph((), (loop.results[1], loop.results[0]), "loops")
    (result,) = Executable(compile_graph(graph, verify=True).artifact).run([])
    assert result == 5
    assert capsys.readouterr().out == "odd 1\nodd 3\n"


def test_symbolic_sizes() -> None:
    """Sizes of operands and results are expressions that the callback evaluates."""
    rows, columns = symbol(0), symbol(1)
    x = TensorType(gx_dtype("f64"), (rows, columns))
    flat = TensorType(gx_dtype("f64"), (rows * columns,))
    token = make("create_token").result
    token, ravelled = make("host_call", [token, input_value(0, x)], function="numpy:ravel", types=(flat,)).results
    inverse = make("pinv", [input_value(0, x)], rtol=None).result
    graph = Graph((x,), (inverse, ravelled, token), "symbolic")
    executable = Executable(compile_graph(graph, verify=True).artifact)
    for shape in ((3, 2), (2, 5), (0, 3)):
        array = np.arange(float(np.prod(shape))).reshape(shape) ** 2
        found = executable.run([array])
        np.testing.assert_array_equal(found[0], np.linalg.pinv(array))
        np.testing.assert_array_equal(found[1], array.ravel())


def test_check_leaves_effects_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GRAPHC", "check,verify")

    @gx.compile
    def f(x: Any) -> Any:
        gx.debug.print("{}", x.sum())
        return x * 1 + 0

    f(X)
    assert capsys.readouterr().out == "6.0\n"


def gx_dtype(name: str) -> Any:
    return hosts.from_name(name)
