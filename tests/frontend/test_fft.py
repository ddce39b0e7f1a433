"""Fourier transforms against NumPy's, and their derivatives against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.errors import GraphcError
from graphc.frontend import fft

RNG = np.random.default_rng(31)
DTYPES = [np.float32, np.float64, np.complex64, np.complex128, np.int32, np.bool_, np.float16]
ONE = [
    lambda f, x: f(x),
    lambda f, x: f(x, 4),
    lambda f, x: f(x, n=9, axis=0),
    lambda f, x: f(x, norm="ortho"),
    lambda f, x: f(x, n=7, axis=-2, norm="forward"),
    lambda f, x: f(x, 1),
    lambda f, x: f(x, norm=None),
]
SEVERAL = [
    lambda f, x: f(x),
    lambda f, x: f(x, (4, 7), (0, 2)),
    lambda f, x: f(x, s=(3, -1), axes=(-1, 1), norm="ortho"),
    lambda f, x: f(x, axes=(1, 0), norm="forward"),
    lambda f, x: f(x, axes=(-1,)),
]
#: What each function is called with, by its name in `numpy.fft`.
CALLS: dict[str, list[Callable[..., Any]]] = {
    **dict.fromkeys(("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"), ONE),
    **dict.fromkeys(("fftn", "ifftn", "rfftn", "irfftn"), SEVERAL),
    **dict.fromkeys(("fft2", "ifft2", "rfft2", "irfft2"), SEVERAL),
}
NAMES = pytest.mark.parametrize("name", list(CALLS))


def numbers(dtype: Any, *shape: int) -> Any:
    kind = np.dtype(dtype).kind
    if kind == "c":
        return (RNG.normal(size=shape) + 1j * RNG.normal(size=shape)).astype(dtype)
    return RNG.normal(size=shape).astype(dtype) if kind == "f" else RNG.integers(0, 2, shape).astype(dtype)


def test_every_function_is_called() -> None:
    own = {f.__name__ for f in fft.NUMPY_FUNCTIONS if not f.__name__.endswith("shift")}
    assert own == set(CALLS)
    assert {*CALLS, "fftfreq", "rfftfreq", "fftshift", "ifftshift"} == set(fft.__all__) - {"NUMPY_FUNCTIONS"}
    assert set(np.fft.__all__) == set(fft.__all__) - {"NUMPY_FUNCTIONS"}


@NAMES
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_values_are_numpys(name: str, dtype: Any) -> None:
    reference, own = getattr(np.fft, name), getattr(gx.fft, name)
    x = numbers(dtype, 3, 5, 6)
    for number, call in enumerate(CALLS[name]):
        try:
            # NumPy rounds the factor of float16 to that dtype.
            expected = call(reference, x.astype(np.float32) if dtype is np.float16 else x)
        except TypeError:
            assert np.dtype(dtype).kind == "c"
            for function in (own, gx.compile(own)):
                with pytest.raises(TypeError, match=r"real samples[\s\S]*test_fft.py"):
                    function(gx.tensor(x))
            continue
        if dtype is np.float16 and expected.dtype == np.float32:
            expected = expected.astype(call(reference, x).dtype)
        found = [
            call(own, gx.tensor(x)),
            call(reference, gx.tensor(x)),
            gx.compile(lambda x, c=call: c(reference, x))(x),
        ]
        tolerance = 3e-6 if expected.dtype in (np.complex64, np.float32) else 1e-13
        tolerance = 2e-3 if expected.dtype == np.float16 else tolerance
        for y in map(np.asarray, found):
            assert y.dtype == expected.dtype and y.shape == expected.shape, (number, y.dtype, expected.dtype)
            scale = np.abs(expected).max() + 1
            np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance * scale, err_msg=str(number))


def test_repeated_axes_and_none() -> None:
    x = numbers(np.complex128, 3, 4)
    for axes in ((0, 0), (1, 0, 1), ()):
        np.testing.assert_allclose(gx.fft.fftn(x, axes=axes), np.fft.fftn(x, axes=axes), rtol=1e-13)
        np.testing.assert_allclose(gx.fft.ifftn(x, axes=axes, norm="ortho"), np.fft.ifftn(x, axes=axes, norm="ortho"))
    np.testing.assert_array_equal(gx.fft.fftn(np.ones((0, 4)), axes=(1,)).shape, (0, 4))


def test_round_trips_and_definition() -> None:
    for n in (1, 2, 5, 8, 12):
        z, x = numbers(np.complex128, 2, n), numbers(np.float64, 2, n)
        matrix = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
        np.testing.assert_allclose(gx.fft.fft(z), z @ matrix, atol=1e-13)
        np.testing.assert_allclose(gx.fft.ifft(gx.fft.fft(z)), z, atol=1e-13)
        np.testing.assert_allclose(gx.fft.irfft(gx.fft.rfft(x), n), x, atol=1e-13)
        np.testing.assert_allclose(gx.fft.hfft(gx.fft.ihfft(x), n), x, atol=1e-13)


def slopes(function: Callable[[Any], Any], x: Any) -> Any:
    """df/dx, and df/dx + i df/dy for complex x, by central differences of a quadratic function: exact but for rounding."""
    out = np.zeros(x.shape, x.dtype)
    for k in np.ndindex(x.shape):
        for direction in (1.0, 1j) if x.dtype.kind == "c" else (1.0,):
            up, down = x.copy(), x.copy()
            up[k] += 1e-3 * direction
            down[k] -= 1e-3 * direction
            out[k] += direction * (function(up) - function(down)) / 2e-3
    return out


@NAMES
@pytest.mark.parametrize("real", [True, False], ids=["real", "complex"])
def test_gradients(name: str, real: bool) -> None:
    reference = getattr(np.fft, name)
    if not real and name.startswith(("r", "ih")):
        return
    x = numbers(np.float64 if real else np.complex128, 2, 3, 4)
    for number, call in enumerate(CALLS[name]):
        weights = numbers(np.complex128, *call(reference, x).shape)

        def loss(x: Any, call: Any = call, weights: Any = weights) -> Any:
            y = call(reference, x)
            return (y * weights).real.sum() + (abs(y) ** 2).sum()

        expected = slopes(loss, x)
        for function in (gx.grad(loss), gx.compile(gx.grad(loss))):
            found = np.asarray(function(gx.tensor(x)))
            assert found.dtype == x.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7, err_msg=str(number))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_gradients_of_short_transforms(n: int) -> None:
    """The first and the middle frequency count once, the others twice."""
    x, z = numbers(np.float64, n), numbers(np.complex128, n // 2 + 1)
    w, v = numbers(np.complex128, n // 2 + 1), numbers(np.float64, n)
    forward = lambda x: (np.fft.rfft(x) * w).real.sum()  # noqa: E731
    back = lambda z: (np.fft.irfft(z, n) * v).sum()  # noqa: E731
    np.testing.assert_allclose(gx.grad(forward)(x), slopes(forward, x), atol=1e-9)
    np.testing.assert_allclose(gx.grad(back)(z), slopes(back, z), atol=1e-9)


def test_second_derivatives_and_forward_mode() -> None:
    x, t = numbers(np.float64, 5), numbers(np.float64, 5)
    energy = lambda x: (abs(gx.fft.rfft(x)) ** 2).sum()  # noqa: E731
    hessian = np.asarray(gx.hessian(energy)(gx.tensor(x)))
    matrix = np.fft.rfft(np.eye(5))
    np.testing.assert_allclose(hessian, 2 * (matrix @ matrix.conj().T).real, atol=1e-12)
    y, dy = gx.jvp(gx.fft.rfft, (gx.tensor(x),), (gx.tensor(t),))
    np.testing.assert_allclose(y, np.fft.rfft(x), atol=1e-13)
    np.testing.assert_allclose(dy, np.fft.rfft(t), atol=1e-13)
    z = numbers(np.complex128, 4, 3)
    np.testing.assert_allclose(gx.vmap(gx.fft.irfft)(z), np.fft.irfft(z), atol=1e-13)


def test_in_a_compiled_function_with_other_work() -> None:
    """A circular convolution, written with transforms, is that of a loop."""
    x, h = numbers(np.float32, 3, 16), numbers(np.float32, 16)
    filtered = gx.compile(lambda x, h: gx.fft.irfft(gx.fft.rfft(x) * gx.fft.rfft(h)))
    expected = np.stack([[sum(row[j] * h[(i - j) % 16] for j in range(16)) for i in range(16)] for row in x])
    found = filtered(x, h)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert [c.function for c in filtered.inspect(x, h).host_calls] == ["numpy.fft:rfft"] * 2 + ["numpy.fft:irfft"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: gx.fft.fft(x, 0), ValueError),
        (lambda x: gx.fft.fft(x[:0], axis=0), ValueError),
        (lambda x: gx.fft.irfft(x[:1], axis=0), ValueError),
        (lambda x: gx.fft.fft(x, norm="other"), ValueError),
        (lambda x: gx.fft.rfftn(x, norm="other"), ValueError),
        (lambda x: gx.fft.fft(x, axis=2), IndexError),
        (lambda x: gx.fft.fft(x[0, 0]), IndexError),
        (lambda x: gx.fft.fftn(x, s=(2,), axes=(0, 1)), ValueError),
        (lambda x: gx.fft.rfftn(x, axes=()), ValueError),
        (lambda x: gx.fft.fft(x, 2.5), TypeError),
        (lambda x: gx.fft.rfft(x * 1j), TypeError),
        (lambda x: gx.fft.fft2(x[0]), IndexError),
    ],
)
@pytest.mark.parametrize("mode", [lambda f: f, gx.compile], ids=["dynamic", "compiled"])
def test_faults_name_the_line(call: Any, error: Any, mode: Any) -> None:
    with pytest.raises(error) as caught:
        mode(call)(gx.tensor(np.ones((2, 3))))
    assert isinstance(caught.value, GraphcError)
    assert "test_fft.py" in str(caught.value) and "hint" in str(caught.value)
