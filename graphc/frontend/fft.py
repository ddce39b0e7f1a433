"""Discrete Fourier transforms: the Array API's `fft` extension, and what NumPy's has besides. Layer 5. Semantics are NumPy's.

Values are those of `numpy.fft` in the dtype of the operand (complex64 stays complex64), called from native code too (`inspect`
lists the calls); derivatives are transforms again. float16 and bfloat16 are transformed as float32, integers and bools as
float64.

`norm` is "backward" (the inverse is divided by the number of samples n), "ortho" (both by its root) or "forward" (the transform
is divided by n); None is "backward".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.dtypes import complex64, complex128, float32, float64
from graphc.errors import DTypeError, OptionError, ShapeError, message
from graphc.frontend.composed import conj
from graphc.frontend.creation import asarray
from graphc.frontend.promotion import as_tensor, broadcast_to, convert, describe, op
from graphc.frontend.shaping import integer, normalize_axes, normalize_axis, roll, slice_axis
from graphc.frontend.signature import static_arguments
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, default_dtype
from graphc.ops.fft import NORMS

__all__ = [
    "NUMPY_FUNCTIONS",
    "fft",
    "fft2",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfft2",
    "irfftn",
    "rfft",
    "rfft2",
    "rfftfreq",
    "rfftn",
]


# -- arguments -------------------------------------------------------------------------------------------------------------


def _complex(x: Any) -> Tensor:
    tensor = as_tensor(x)
    dtype = tensor.type.dtype
    if dtype.is_complex:
        return tensor
    return convert(tensor, (complex64 if dtype.is_float and dtype.bits <= 32 else complex128).numpy)


def _real(name: str, x: Any) -> Tensor:
    tensor = as_tensor(x)
    dtype = tensor.type.dtype
    if dtype.is_complex:
        raise DTypeError(
            message(
                f"{name} takes real samples",
                operands=[("x", describe(tensor))],
                location=user_location(),
                hint=f"Use {name[1:] if name.startswith('r') else 'ifft'} for complex samples, or transform x.real.",
            )
        )
    return convert(tensor, (float32 if dtype.is_float and dtype.bits <= 32 else float64).numpy)


def _norm(name: str, norm: str | None) -> str:
    if norm is not None and norm not in NORMS:
        raise OptionError(
            message(
                f"{name}: there is no norm {norm!r}",
                location=user_location(),
                hint="It is 'backward', 'ortho' or 'forward'.",
            )
        )
    return norm or "backward"


def _samples(name: str, n: Any, x: Tensor, own: int) -> int:
    """How many samples a transform along an axis has: `n`, or else `own`."""
    count = own if n is None else integer(name, "n", n)
    if count < 1:
        raise ShapeError(
            message(
                f"{name}: the number of samples must be 1 or more, not {count}",
                operands=[("x", describe(x))],
                location=user_location(),
                hint="Give n= (or s=) to cut samples off or to add zeros.",
            )
        )
    return count


def _resized(x: Tensor, axis: int, size: int) -> Tensor:
    """The first elements along an axis, with zeros behind them where there are too few."""
    own = x.shape[axis]
    if size <= own:
        return slice_axis(x, axis, 0, size)
    high = tuple(size - own if a == axis else 0 for a in range(x.ndim))
    return op("pad", x, broadcast_to(as_tensor(np.zeros((), x.dtype)), ()), low=(0,) * x.ndim, high=high)


def _axes(name: str, x: Tensor, s: Any, axes: Any) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
    """Axes as numbers in the given order, and the size that each is to have (None: its own)."""
    sizes = None if s is None else tuple(s)
    if axes is None:
        count = x.ndim if sizes is None else len(sizes)
        axes = range(-count, 0)
    numbers = tuple(normalize_axis(name, a, x.ndim, x) for a in axes)
    if sizes is not None and len(sizes) != len(numbers):
        raise ShapeError(
            message(
                f"{name}: s and axes must have equal lengths, not {len(sizes)} and {len(numbers)}",
                operands=[("x", describe(x))],
                location=user_location(),
                hint="s has a size for each of axes; -1 keeps an axis as it is.",
            )
        )
    if sizes is None:
        return numbers, (None,) * len(numbers)
    return numbers, tuple(x.shape[a] if d == -1 else d for a, d in zip(numbers, sizes, strict=True))


def _some(name: str, x: Tensor, axes: tuple[int, ...]) -> tuple[int, ...]:
    if not axes:
        raise ShapeError(
            message(
                f"{name} needs an axis",
                operands=[("x", describe(x))],
                location=user_location(),
                hint="The last of axes is the one along which half of the spectrum is kept.",
            )
        )
    return axes


def _transformed(
    name: str, x: Tensor, axes: Sequence[int], sizes: Sequence[Any], inverse: bool, norm: str | None
) -> Tensor:
    """The transform along axes, the last of them first."""
    norm = _norm(name, norm)
    if len(set(axes)) != len(axes):
        for axis, size in zip(reversed(axes), reversed(sizes), strict=True):
            x = _transformed(name, x, (axis,), (size,), inverse, norm)
        return x
    for axis, size in zip(axes, sizes, strict=True):
        x = _resized(x, axis, _samples(name, size, x, x.shape[axis]))
    return op("fft", x, axes=tuple(axes), inverse=inverse, norm=norm) if axes else x


# -- complex transforms ------------------------------------------------------------------------------------------------------


def fft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The discrete Fourier transform along an axis: y[k] = the sum over j of x[j] exp(-2 pi i j k / n).

    Parameters
    ----------
    x
        Numbers, real or complex. float32 and complex64 give complex64, other dtypes complex128.
    n
        How many samples: further ones are cut off, missing ones are zeros. By default those that there are.
    axis
        The axis of samples; all others are batches.
    norm
        "backward", "ortho" or "forward": the factor is 1, 1 / sqrt(n) or 1 / n.

    >>> import graphc as gx
    >>> gx.fft.fft([1.0, 0.0, 0.0, 0.0]).tolist()
    [(1+0j), (1+0j), (1+0j), (1+0j)]

    Raises
    ------
    ValueError
        For no samples, or an unknown `norm`.
    """
    return _along("fft", x, n, axis, norm, False)


def ifft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The inverse of `fft`: y[k] = the sum over j of x[j] exp(2 pi i j k / n), divided by n with the usual norm."""
    return _along("ifft", x, n, axis, norm, True)


def _along(name: str, x: Any, n: int | None, axis: int, norm: str | None, inverse: bool) -> Tensor:
    tensor = _complex(x)
    number = normalize_axis(name, axis, tensor.ndim, tensor)
    return _transformed(name, tensor, (number,), (n,), inverse, norm)


def fftn(x: Any, /, s: Any = None, axes: Any = None, norm: str | None = "backward") -> Tensor:
    """The Fourier transform along several axes (None: all, or the last len(s)); `s` are the numbers of samples along them, -1
    for those that there are."""
    return _over("fftn", x, s, axes, norm, False)


def ifftn(x: Any, /, s: Any = None, axes: Any = None, norm: str | None = "backward") -> Tensor:
    """The inverse of `fftn`."""
    return _over("ifftn", x, s, axes, norm, True)


def fft2(x: Any, /, s: Any = None, axes: Any = (-2, -1), norm: str | None = "backward") -> Tensor:
    """`fftn` along the last two axes."""
    return _over("fft2", x, s, axes, norm, False)


def ifft2(x: Any, /, s: Any = None, axes: Any = (-2, -1), norm: str | None = "backward") -> Tensor:
    """The inverse of `fft2`."""
    return _over("ifft2", x, s, axes, norm, True)


def _over(name: str, x: Any, s: Any, axes: Any, norm: str | None, inverse: bool) -> Tensor:
    tensor = _complex(x)
    return _transformed(name, tensor, *_axes(name, tensor, s, axes), inverse, norm)


# -- real transforms ---------------------------------------------------------------------------------------------------------


def rfft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The first n // 2 + 1 numbers of the Fourier transform of n real samples; the others are their conjugates."""
    tensor = _real("rfft", x)
    return _half("rfft", tensor, normalize_axis("rfft", axis, tensor.ndim, tensor), n, _norm("rfft", norm))


def _half(name: str, x: Tensor, axis: int, n: Any, norm: str) -> Tensor:
    return op("rfft", _resized(x, axis, _samples(name, n, x, x.shape[axis])), axis=axis, norm=norm)


def irfft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The inverse of `rfft`: n real numbers, by default 2 (m - 1), from the first m = n // 2 + 1 of their spectrum."""
    return _whole("irfft", x, n, axis, norm)


def _whole(name: str, x: Any, n: Any, axis: int, norm: str | None) -> Tensor:
    tensor, given = _complex(x), as_tensor(x).type.dtype
    number = normalize_axis(name, axis, tensor.ndim, tensor)
    size = _samples(name, n, tensor, 2 * (tensor.shape[number] - 1))
    out = op("irfft", _resized(tensor, number, size // 2 + 1), axis=number, samples=size, norm=_norm(name, norm))
    return convert(out, given.numpy) if given.is_short_float else out


def rfftn(x: Any, /, s: Any = None, axes: Any = None, norm: str | None = "backward") -> Tensor:
    """The Fourier transform of real samples along several axes: `rfft` along the last of them, then `fft` along the others."""
    return _half_over("rfftn", x, s, axes, norm)


def rfft2(x: Any, /, s: Any = None, axes: Any = (-2, -1), norm: str | None = "backward") -> Tensor:
    """`rfftn` along the last two axes."""
    return _half_over("rfft2", x, s, axes, norm)


def _half_over(name: str, x: Any, s: Any, axes: Any, norm: str | None) -> Tensor:
    tensor = _real(name, x)
    numbers, sizes = _axes(name, tensor, s, axes)
    half = _half(name, tensor, _some(name, tensor, numbers)[-1], sizes[-1], _norm(name, norm))
    return _transformed(name, half, numbers[:-1], sizes[:-1], False, norm)


def irfftn(x: Any, /, s: Any = None, axes: Any = None, norm: str | None = "backward") -> Tensor:
    """The inverse of `rfftn`: `ifft` along all axes but the last, then `irfft`."""
    return _whole_over("irfftn", x, s, axes, norm)


def irfft2(x: Any, /, s: Any = None, axes: Any = (-2, -1), norm: str | None = "backward") -> Tensor:
    """The inverse of `rfft2`."""
    return _whole_over("irfft2", x, s, axes, norm)


def _whole_over(name: str, x: Any, s: Any, axes: Any, norm: str | None) -> Tensor:
    tensor = as_tensor(x)
    numbers, sizes = _axes(name, tensor, s, axes)
    last = _some(name, tensor, numbers)[-1]
    if len(numbers) > 1:
        # NumPy's inverse takes the axes in ascending order.
        tensor = _transformed(name, _complex(tensor), numbers[-2::-1], sizes[-2::-1], True, norm)
    return _whole(name, tensor, sizes[-1], last, norm)


def hfft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The real spectrum, of n numbers, by default 2 (m - 1), of samples that are their own conjugates in reverse order, of
    which the first m = n // 2 + 1 are given."""
    return _whole("hfft", conj(x), n, axis, NORMS[_norm("hfft", norm)])


def ihfft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The inverse of `hfft`: the first n // 2 + 1 samples that n real numbers of a spectrum come from."""
    tensor = _real("ihfft", x)
    number = normalize_axis("ihfft", axis, tensor.ndim, tensor)
    return conj(_half("ihfft", tensor, number, n, NORMS[_norm("ihfft", norm)]))


# -- frequencies and shifts --------------------------------------------------------------------------------------------------


@static_arguments("d")
def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies [n] of a transform of n samples at distance d, in cycles per unit: 0, 1, ..., -1 over n * d."""
    frequencies = np.fft.fftfreq(integer("fftfreq", "n", n), d)
    return asarray(frequencies, dtype=default_dtype() if dtype is None else dtype, device=device)


@static_arguments("d")
def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies [n // 2 + 1] of a transform of n real samples at distance d."""
    frequencies = np.fft.rfftfreq(integer("rfftfreq", "n", n), d)
    return asarray(frequencies, dtype=default_dtype() if dtype is None else dtype, device=device)


def fftshift(x: Any, /, *, axes: Any = None) -> Tensor:
    """The frequency 0 moved from the start to the middle of axes (None: of all)."""
    return _shifted("fftshift", x, axes, lambda size: size // 2)


def ifftshift(x: Any, /, *, axes: Any = None) -> Tensor:
    """The inverse of `fftshift`: the frequency 0 moved from the middle to the start."""
    return _shifted("ifftshift", x, axes, lambda size: -(size // 2))


def _shifted(name: str, x: Any, axes: Any, shift: Any) -> Tensor:
    tensor = as_tensor(x)
    chosen = range(tensor.ndim) if axes is None else axes if isinstance(axes, (tuple, list)) else (axes,)
    numbers = normalize_axes(name, tuple(chosen), tensor.ndim, tensor)
    return roll(tensor, tuple(shift(tensor.shape[a]) for a in numbers), axis=numbers)


# -- NumPy's functions -------------------------------------------------------------------------------------------------------


def _numpy_1d(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Tensor:
        return function(a, n, axis, norm)

    return call


def _numpy_nd(function: Callable[..., Tensor], default: Any) -> Callable[..., Tensor]:
    def call(a: Any, s: Any = None, axes: Any = default, norm: str | None = None) -> Tensor:
        return function(a, s, axes, norm)

    return call


NUMPY_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **{getattr(np.fft, f.__name__): _numpy_1d(f) for f in (fft, ifft, rfft, irfft, hfft, ihfft)},
    **{getattr(np.fft, f.__name__): _numpy_nd(f, None) for f in (fftn, ifftn, rfftn, irfftn)},
    **{getattr(np.fft, f.__name__): _numpy_nd(f, (-2, -1)) for f in (fft2, ifft2, rfft2, irfft2)},
    np.fft.fftshift: lambda x, axes=None: fftshift(x, axes=axes),
    np.fft.ifftshift: lambda x, axes=None: ifftshift(x, axes=axes),
}
