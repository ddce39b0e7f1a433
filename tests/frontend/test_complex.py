"""Complex numbers as users meet them: dtypes, promotion, parts, derivatives by PyTorch's convention, dynamic mode."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.dtypes import complex64
from graphc.errors import UnsupportedError
from graphc.frontend.build import Options, compile_stages
from graphc.interp import evaluate
from graphc.ir.dims import symbol
from graphc.ir.graph import Graph, input_value
from graphc.ir.op import GraphBuilder
from graphc.ir.types import TensorType
from graphc.runtime.executable import Executable

RNG = np.random.default_rng(7)


def numbers(*shape: int, dtype: Any = np.complex128) -> Any:
    return (RNG.normal(size=shape) + 1j * RNG.normal(size=shape)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize(
    "other", [True, 2, 1.5, 2j, np.int8(3), np.float32(2), np.float64(3), np.complex128(1j)], ids=repr
)
def test_promotion_is_numpys(dtype: Any, other: Any) -> None:
    z = numbers(3, dtype=dtype)
    for x, y in ((z, other), (other, z)):
        found = gx.multiply(x if x is not z else gx.tensor(z), y if y is not z else gx.tensor(z))
        assert found.dtype == (x * y).dtype


def test_python_numbers_take_the_default_dtype() -> None:
    assert gx.tensor([1j, 2]).dtype == gx.complex64
    assert gx.full((2,), 1j).dtype == gx.complex64
    assert (gx.tensor([1.0, 2.0]) * 1j).dtype == gx.complex64
    assert (gx.tensor(np.ones(2)) * 1j).dtype == gx.complex128
    assert gx.tensor(np.array([1j])).dtype == gx.complex128
    assert gx.__array_namespace_info__().default_dtypes()["complex floating"] == gx.complex64


def test_parts() -> None:
    z = numbers(2, 3, dtype=np.complex64)
    t = gx.tensor(z)
    for found, expected in (
        *((t.real, z.real), (t.imag, z.imag), (t.conj(), z.conj()), (t.conjugate(), z.conj()), (np.conj(t), z.conj())),
        *((gx.real(t), z.real), (np.imag(t), z.imag), (np.angle(t), np.angle(z)), (abs(t), abs(z))),
    ):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.numpy(), expected)
    x = gx.tensor([1.0, -2.0])
    np.testing.assert_array_equal(x.real.numpy(), x.numpy())
    np.testing.assert_array_equal(x.imag.numpy(), [0, 0])
    assert repr(gx.tensor([1 - 2j])) == "Tensor([1.-2.j], dtype=complex64)"
    assert complex(gx.tensor(1 - 2j)) == 1 - 2j


def test_copies_keep_every_bit() -> None:
    z = np.array([complex(-0.0, -0.0), complex(np.inf, -0.0), complex(-0.0, np.inf)])
    copy = gx.tensor(z, requires_grad=True).copy()
    assert copy.detach().numpy().tobytes() == z.tobytes()


REDUCTIONS: list[Callable[[Any], Any]] = [
    *(
        np.sum,
        np.prod,
        np.mean,
        np.var,
        np.std,
        np.cumsum,
        np.cumprod,
        np.count_nonzero,
        np.any,
        np.all,
        np.linalg.norm,
    ),
    *(lambda z: np.sum(z, axis=0), lambda z: np.cumprod(z, axis=1), lambda z: np.linalg.norm(z, axis=1, ord=3)),
    *(np.diff, np.trace, lambda z: np.linalg.norm(z, ord=1), np.nan_to_num),
]
PRODUCTS: list[Callable[[Any, Any], Any]] = [
    *(lambda x, y: x @ y, np.dot, np.vdot, np.outer, np.kron, np.inner),
    *(lambda x, y: np.einsum("ij,jk->ik", x, y), lambda x, y: np.tensordot(x, y, axes=1)),
    *(lambda x, y: np.where(x.real > 0, x, y), lambda x, y: np.concatenate([x, y]), lambda x, y: x == y),
    *(lambda x, y: x[1:, ::2] * y[1:, ::2], np.isclose, lambda x, y: np.stack([x, y])),
]


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("number", range(len(REDUCTIONS)))
def test_reductions_are_numpys(number: int, dtype: Any) -> None:
    z = numbers(4, 4, dtype=dtype)
    expected = np.asarray(REDUCTIONS[number](z))
    found = REDUCTIONS[number](gx.tensor(z)).numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == np.complex64 else 1e-13)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("number", range(len(PRODUCTS)))
def test_products_are_numpys(number: int, dtype: Any) -> None:
    x, y = numbers(4, 4, dtype=dtype), numbers(4, 4, dtype=dtype)
    expected = np.asarray(PRODUCTS[number](x, y))
    found = PRODUCTS[number](gx.tensor(x), gx.tensor(y)).numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == np.complex64 else 1e-13, atol=1e-6)


def test_inner_products_conjugate_the_first() -> None:
    x, y = numbers(3, 5), numbers(3, 5)
    np.testing.assert_allclose(gx.vecdot(x, y).numpy(), np.sum(x.conj() * y, axis=-1))
    np.testing.assert_allclose(gx.linalg.vecdot(x, y, axis=-2).numpy(), np.sum(x.conj() * y, axis=-2))
    np.testing.assert_allclose(gx.linalg.matrix_norm(x).numpy(), np.linalg.norm(x))
    np.testing.assert_allclose(gx.linalg.matrix_norm(x, ord=1).numpy(), np.linalg.norm(x, ord=1))
    square = numbers(4, 4)
    np.testing.assert_allclose(gx.linalg.matrix_power(square, 5).numpy(), np.linalg.matrix_power(square, 5))


FUNCTIONS: list[Callable[[Any], Any]] = [
    *(
        lambda z: abs(z).sum(),
        lambda z: (z * z.conj()).real.sum(),
        lambda z: (z**2).real.sum(),
        lambda z: np.angle(z).sum(),
    ),
    *(
        lambda z: np.exp(z).imag.sum(),
        lambda z: np.abs(np.prod(z)),
        lambda z: abs(np.cumprod(z)).sum(),
        np.var,
    ),
    *(lambda z: np.sign(z).imag.sum(), np.linalg.norm, lambda z: (z @ (z * (1 + 2j))).real),
    *(
        lambda z: abs(1 / z + np.log(z)).sum(),
        lambda z: (z / (z + 2j)).real.sum(),
        lambda z: abs(np.vdot(z, z * 1j + 1)),
    ),
    *(
        lambda z: np.where(z.real > 0, z, 0).imag.sum(),
        lambda z: abs(z[::-1] - 1j * z).sum(),
        lambda z: (z**1.5).real.sum(),
    ),
    *(
        lambda z: abs(np.tanh(z)).sum(),
        lambda z: (z ** (1 + 1j)).imag.sum(),
        lambda z: z.astype(np.complex64).real.sum(),
    ),
    lambda z: abs(np.einsum("i,j->ij", z, np.sqrt(z))).sum(),
]


@pytest.mark.parametrize("number", range(len(FUNCTIONS)))
def test_gradients_against_finite_differences(number: int) -> None:
    """The gradient is df/dx + i * df/dy, as PyTorch has it: the direction of steepest ascent."""
    function, z = FUNCTIONS[number], numbers(5)
    step = 1e-6 if number != len(FUNCTIONS) - 2 else 1e-2
    expected = np.zeros(5, complex)
    for k in range(5):
        for direction in (1, 1j):
            moved = [z.copy() for _ in range(2)]
            moved[0][k] += step * direction
            moved[1][k] -= step * direction
            expected[k] += direction * (np.real(function(moved[0])) - np.real(function(moved[1]))) / (2 * step)
    tolerance = 1e-3 if number == len(FUNCTIONS) - 2 else 1e-7
    np.testing.assert_allclose(gx.grad(function)(z), expected, rtol=tolerance, atol=tolerance)
    leaf = gx.tensor(z, requires_grad=True)
    function(leaf).backward()
    assert leaf.grad.dtype == np.complex128
    np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=tolerance, atol=tolerance)


def test_a_real_operand_gets_a_real_gradient() -> None:
    x = gx.tensor([1.0, 2.0], requires_grad=True)
    (abs(x * (3 + 4j)) ** 2).sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_allclose(x.grad.numpy(), [50, 100], rtol=1e-6)


def test_gradient_of_a_complex_result_is_given() -> None:
    z = gx.tensor([1 + 1j], requires_grad=True)
    (z * z).backward(gx.tensor([1j]))
    np.testing.assert_allclose(z.grad.numpy(), [1j * np.conj(2 + 2j)])


# -- compiled ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_compiled_as_dynamic(dtype: Any) -> None:
    x, y = numbers(4, 4, dtype=dtype), numbers(4, 4, dtype=dtype)

    @gx.compile
    def everything(x: Any, y: Any) -> Any:
        return [f(x) for f in REDUCTIONS], [f(x, y) for f in PRODUCTS]

    found = [r for part in everything(x, y) for r in part]
    expected = [r for part in ([f(x) for f in REDUCTIONS], [f(x, y) for f in PRODUCTS]) for r in part]
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape, number
        np.testing.assert_allclose(a, b, rtol=2e-5 if dtype == np.complex64 else 1e-12, atol=1e-6, err_msg=str(number))


def test_compiled_gradients() -> None:
    z = numbers(5)
    found = gx.compile(lambda z: [gx.grad(f)(z) for f in FUNCTIONS])(z)
    for f, g in zip(FUNCTIONS, found, strict=True):
        np.testing.assert_allclose(g, gx.grad(f)(z), rtol=1e-6, atol=1e-6)


def test_numbers_as_arguments_are_weak() -> None:
    times = gx.compile(lambda x, c: x * c)
    assert times(np.ones(3, np.float32), 2j).dtype == np.complex64
    assert times(np.ones(3), 2j).dtype == np.complex128
    assert times.stats.compiles == 2
    assert times(np.ones(3, np.float32), 5 - 1j).tolist() == [5 - 1j] * 3
    assert times.stats.compiles == 2
    assert gx.compile(lambda c: c + 1)(1j) == 1 + 1j


def test_state_is_updated_in_place() -> None:
    weight = gx.tensor(numbers(3, 3, dtype=np.complex64), requires_grad=True)
    memory = weight.numpy()
    x = numbers(4, 3, dtype=np.complex64)

    def step(w: Any, x: Any) -> Any:
        loss = (abs(x @ w) ** 2).sum()
        loss.backward()
        with gx.no_grad():
            w -= 0.01 * w.grad
        w.grad = None
        return loss

    twin = gx.tensor(memory, requires_grad=True)
    compiled = gx.compile(lambda x: step(weight, x))
    for _ in range(3):
        np.testing.assert_allclose(compiled(x).item(), step(twin, x).item(), rtol=1e-5)
    assert weight.numpy() is memory or np.shares_memory(weight.numpy(), memory)
    np.testing.assert_allclose(memory, twin.numpy(), rtol=1e-5)
    assert compiled.stats.compiles == 1


def test_accumulated_gradients_keep_zeros() -> None:
    leaf = gx.tensor(np.array([1 + 1j]), requires_grad=True)
    gx.compile(lambda: (leaf * complex(-0.0, -0.0)).backward(gx.tensor(np.array([1 + 0j]))))()
    dynamic = gx.tensor(np.array([1 + 1j]), requires_grad=True)
    (dynamic * complex(-0.0, -0.0)).backward(gx.tensor(np.array([1 + 0j])))
    assert leaf.grad.numpy().tobytes() == dynamic.grad.numpy().tobytes()


def test_arguments_written_in_place_and_captured_arrays() -> None:
    held = numbers(2, 3)

    @gx.compile
    def f(x: Any) -> Any:
        x *= 1j
        x[0] = held[1]
        return x.T

    x = numbers(2, 3)
    expected = np.stack([held[1], x[1] * 1j])
    result = f(x)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(result, expected.T)


@pytest.mark.parametrize(
    "layout", [lambda z: z[::2, ::-1], np.asfortranarray, lambda z: z.T, lambda z: z.astype(">c16")]
)
def test_any_layout(layout: Callable[[Any], Any]) -> None:
    z = layout(numbers(6, 4))
    np.testing.assert_allclose(gx.compile(lambda z: z * 2 - z.conj())(z), z * 2 - z.conj(), rtol=1e-14)


def test_calls_go_without_python_in_the_end() -> None:
    double = gx.compile(lambda z: z + z)
    z = numbers(3)
    for _ in range(5):
        np.testing.assert_array_equal(double(z), z + z)
    assert double.stats.calls == 5


def test_control_flow_and_transformations() -> None:
    z = numbers(4)

    @gx.compile
    def everything(z: Any) -> Any:
        total, sums = gx.scan(lambda c, v: (c + v, c + v), np.complex128(0), z)
        chosen = gx.cond(z.real.sum() > 1e9, lambda v: -v, lambda v: v * 1j, z)
        grown = gx.while_loop(lambda v: abs(v).sum() < 100, lambda v: v * (1 + 1j), z)
        each = gx.vmap(lambda a: (a * np.conj(a)).real)(z)
        pushed = gx.jvp(lambda a: np.log(a) * a, (z,), (z * 1j,))[1]
        return total, sums, chosen, grown, each, pushed

    total, sums, chosen, grown, each, pushed = everything(z)
    np.testing.assert_allclose(total, z.sum())
    np.testing.assert_allclose(sums, np.cumsum(z))
    np.testing.assert_allclose(chosen, z * 1j)
    expected = z
    while abs(expected).sum() < 100:
        expected = expected * (1 + 1j)
    np.testing.assert_allclose(grown, expected)
    np.testing.assert_allclose(each, abs(z) ** 2)
    np.testing.assert_allclose(pushed, (np.log(z) + 1) * z * 1j)


def test_forward_mode_is_the_transpose_of_reverse_mode() -> None:
    """The real inner product of ct with J v is that of J^H ct with v, for functions of complex derivative or not."""
    z, v = numbers(4), numbers(4)
    for f in (abs, np.sign, np.conj, np.exp, np.cumprod, lambda a: a.real * a, lambda a: np.where(a.real > 0, a, 1j)):
        y, pushed = gx.jvp(f, (z,), (v,))
        ct = numbers(4) if np.iscomplexobj(y) else RNG.normal(size=4)
        (pulled,) = gx.vjp(f, z)[1](ct)
        np.testing.assert_allclose(np.vdot(ct, pushed).real, np.vdot(pulled, v).real)


def test_host_calls_and_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC", "check,verify")
    turned = gx.custom_op(lambda x: np.conj(x) * 1j)
    z = numbers(2, 3)
    np.testing.assert_allclose(gx.compile(lambda z: turned(z * 2) + z)(z), np.conj(z * 2) * 1j + z)
    np.testing.assert_allclose(gx.compile(lambda z: np.exp(z).sum() * z)(z), np.exp(z).sum() * z)


def test_exported_models(tmp_path: Any) -> None:
    weight = gx.tensor(numbers(3, 2, dtype=np.complex64))
    z = numbers(4, 3, dtype=np.complex64)
    f = gx.compile(lambda z: np.exp(z @ weight) * 2j)
    expected = f(z)
    folder = f.export(tmp_path / "turned", z)
    sys.path.insert(0, str(tmp_path))
    try:
        module = importlib.import_module("turned")
        found = next(getattr(module, name) for name in module.__all__)(z)
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("turned", None)
    assert folder
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_memory_is_shared_by_dlpack() -> None:
    z = numbers(3)
    assert np.shares_memory(gx.from_dlpack(z).numpy(), z)
    assert np.shares_memory(np.from_dlpack(gx.asarray(z)), z)


def test_unknown_sizes() -> None:
    """Views, sums and products of complex numbers with a symbolic dimension."""
    b, n = GraphBuilder(), symbol(0)
    x, y = (input_value(k, TensorType(complex64, (n, 3))) for k in (0, 1))
    numbers_of_axes = {"lhs_batch": (), "rhs_batch": (), "lhs_contract": (0,), "rhs_contract": (0,)}
    outputs = (b.multiply(b.exp(x), y), b.sum(x, axes=(0,)), b.dot(x, y, **numbers_of_axes), b.conj(x))
    graph = Graph((x.type, y.type), outputs)
    run = Executable(compile_stages(graph, {}, Options())[1].artifact).run
    for count in (0, 1, 2, 33, 64):
        arrays = [numbers(count, 3, dtype=np.complex64) for _ in range(2)]
        for found, expected in zip(run(arrays), evaluate(graph, arrays), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    product = Graph((x.type,), (b.prod(x, axes=(0,)),))
    with pytest.raises(UnsupportedError, match="unknown size"):
        compile_stages(product, {}, Options())
