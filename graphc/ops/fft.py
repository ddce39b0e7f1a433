"""Discrete Fourier transforms by NumPy's `fft`, in the dtype of the operand, batched over all other axes. Layer 2.

Values are NumPy's own (host calls in native code); derivatives are graph code: a transform is linear, and the cotangent of
its operand is the opposite transform of the result's, with the factor that the opposite `norm` gives. With F the unscaled
transform of n samples:

    norm       fft     ifft      cotangent of fft       of ifft
    backward   F       F^H / n   ifft, norm="forward"   fft, norm="forward"
    ortho      F/√n    F^H/√n    ifft, norm="ortho"     fft, norm="ortho"
    forward    F / n   F^H       ifft, norm="backward"  fft, norm="backward"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphc import dtypes
from graphc.errors import DTypeError, NoDerivativeError, ShapeError
from graphc.ir.dims import Dim
from graphc.ir.op import Builder, Host, type_error
from graphc.ir.registry import register
from graphc.ir.types import TensorType, Type

__all__ = ["NORMS", "fft", "irfft", "rfft"]

Values = Sequence[Any]

#: Each way to share out the factor 1 / n, and the way of the opposite transform's cotangent.
NORMS: Mapping[str, str] = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


def _operand(name: str, types: Sequence[Type], axes: Sequence[int], norm: str, *, complex_: bool) -> TensorType:
    """The operand's type, checked with the attributes."""
    if len(types) != 1:
        raise ShapeError(type_error(name, f"takes 1 operand, got {len(types)}", types))
    (x,) = types
    if not isinstance(x, TensorType):
        raise DTypeError(type_error(name, "takes tensors, not tokens", types))
    accepted = (dtypes.complex64, dtypes.complex128) if complex_ else (dtypes.float32, dtypes.float64)
    if x.dtype not in accepted:
        raise DTypeError(type_error(name, f"takes {accepted[0].name} or {accepted[1].name}", types))
    if norm not in NORMS:
        raise ShapeError(f"{name}: norm must be one of {', '.join(NORMS)}, not {norm!r}")
    if any(not 0 <= a < x.rank for a in axes):
        raise ShapeError(type_error(name, f"axes {tuple(axes)} are not axes of the operand", types))
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(type_error(name, "there is no transform of no samples", types))
    return x


def _with_size(shape: Sequence[Dim], axis: int, size: Dim) -> tuple[Dim, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _one_more(size: Dim, axis: int, **attrs: Any) -> dict[str, Any]:
    return {"axis": axis + 1, **attrs}


# -- complex to complex --------------------------------------------------------------------------------------------------


def _fft_rule(*types: Type, axes: tuple[int, ...], inverse: bool, norm: str) -> tuple[Type, ...]:
    return (_operand("fft", types, axes, norm, complex_=True),)


def _fft_vjp(
    b: Builder, operands: Values, results: Values, cotangents: Values, axes: tuple[int, ...], inverse: bool, norm: str
) -> Values:
    return [b.fft(cotangents[0], axes=axes, inverse=not inverse, norm=NORMS[norm])]


fft = register(
    Host(
        name="fft",
        doc="""The discrete Fourier transform of complex x along `axes`, the last of them first, or its `inverse`: y[k] = the
        sum over j of x[j] exp(-2 pi i j k / n) (inverse: +), times a factor for each axis by `norm`: "backward" 1
        (inverse: 1 / n), "ortho" 1 / sqrt(n), "forward" 1 / n (inverse: 1). One NaN or infinity makes all results along the
        axes NaN or infinite. An axis without samples is an error.""",
        attributes=("axes", "inverse", "norm"),
        rule=_fft_rule,
        function=lambda axes, inverse, norm: (
            "numpy.fft:ifftn" if inverse else "numpy.fft:fftn",
            {"axes": axes, "norm": norm},
        ),
        vjp=_fft_vjp,
        linear="together",
        shift=lambda size, axes, **attrs: {"axes": tuple(a + 1 for a in axes), **attrs},
    )
)


# -- real to complex and back --------------------------------------------------------------------------------------------


def _weighted(b: Builder, x: Any, axis: int, size: Dim, inner: float) -> Any:
    """Half a spectrum of a transform of `size` samples times `inner`, but for the frequencies that stand for themselves
    alone: 0 and, of an even number of samples, the highest."""
    if not isinstance(size, int):
        raise NoDerivativeError("rfft and irfft have a derivative where the number of samples is known")
    t = b.type(x)
    place = b.iota(shape=t.shape, axis=axis, dtype=dtypes.int64)
    mirrored = b.not_equal(b.remainder(b.subtract(b.like(place, size), place), size), place)
    return b.select(mirrored, b.multiply(x, inner), x)


def _rfft_rule(*types: Type, axis: int, norm: str) -> tuple[Type, ...]:
    x = _operand("rfft", types, (axis,), norm, complex_=False)
    return (TensorType(x.dtype.with_parts, _with_size(x.shape, axis, x.shape[axis] // 2 + 1)),)


def _rfft_vjp(b: Builder, operands: Values, results: Values, cotangents: Values, axis: int, norm: str) -> Values:
    """The real part of the opposite transform of the cotangent and zeros: the inverse of half a spectrum counts what is inside
    twice."""
    size = b.type(operands[0]).shape[axis]
    half = _weighted(b, cotangents[0], axis, size, 0.5)
    return [b.irfft(half, axis=axis, samples=size, norm=NORMS[norm])]


rfft = register(
    Host(
        name="rfft",
        doc="""The first n // 2 + 1 numbers along `axis` of the discrete Fourier transform of n real x; the others are their
        conjugates. `norm` as for `fft`.""",
        attributes=("axis", "norm"),
        rule=_rfft_rule,
        function=lambda axis, norm: ("numpy.fft:rfft", {"axis": axis, "norm": norm}),
        vjp=_rfft_vjp,
        linear="together",
        shift=_one_more,
    )
)


def _irfft_rule(*types: Type, axis: int, samples: Dim, norm: str) -> tuple[Type, ...]:
    x = _operand("irfft", types, (axis,), norm, complex_=True)
    if samples == 0 or x.shape[axis] != samples // 2 + 1:
        raise ShapeError(type_error("irfft", f"half of the spectrum of {samples} samples has another size", types))
    return (TensorType(x.dtype.part, _with_size(x.shape, axis, samples)),)


def _irfft_vjp(
    b: Builder, operands: Values, results: Values, cotangents: Values, axis: int, samples: Dim, norm: str
) -> Values:
    return [_weighted(b, b.rfft(cotangents[0], axis=axis, norm=NORMS[norm]), axis, samples, 2.0)]


irfft = register(
    Host(
        name="irfft",
        doc="""The `samples` real numbers along `axis` whose Fourier transform begins with x, samples // 2 + 1 complex numbers:
        the inverse of `rfft`. Imaginary parts of the first and, for an even number, of the last number count as 0. `norm` as
        for the inverse `fft`.""",
        attributes=("axis", "samples", "norm"),
        rule=_irfft_rule,
        function=lambda axis, samples, norm: ("numpy.fft:irfft", {"n": samples, "axis": axis, "norm": norm}),
        vjp=_irfft_vjp,
        linear="together",
        shift=_one_more,
    )
)
