"""The parts of the Array API's `fft` extension that are real: sample frequencies and shifts. Layer 5.

The transforms themselves give complex numbers, which graphc's dtypes do not have yet.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.frontend.creation import asarray
from graphc.frontend.promotion import as_tensor
from graphc.frontend.shaping import integer, normalize_axes, roll
from graphc.frontend.signature import static_arguments
from graphc.frontend.tensor import Tensor, default_dtype

__all__ = ["fftfreq", "fftshift", "ifftshift", "rfftfreq"]


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
