"""What of the Array API's fft extension needs no complex numbers. Layer 5."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.frontend.creation import asarray
from graphc.frontend.promotion import as_tensor, check_device
from graphc.frontend.shaping import normalize_axes, roll
from graphc.frontend.tensor import Tensor, default_dtype

__all__ = ["fftfreq", "fftshift", "ifftshift", "rfftfreq"]


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies of a discrete Fourier transform of n samples that are d apart."""
    check_device(device)
    return asarray(np.fft.fftfreq(n, d).astype(default_dtype() if dtype is None else dtype))


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequencies, not negative, of a real discrete Fourier transform of n samples that are d apart."""
    check_device(device)
    return asarray(np.fft.rfftfreq(n, d).astype(default_dtype() if dtype is None else dtype))


def _shifted(name: str, x: Any, axes: Any, sign: int) -> Tensor:
    tensor = as_tensor(x)
    numbers = normalize_axes(name, axes, tensor.ndim, tensor)
    return roll(tensor, tuple(sign * (tensor.shape[a] // 2) for a in numbers), axis=numbers)


def fftshift(x: Any, /, *, axes: Any = None) -> Tensor:
    """The zero frequency moved to the middle of the axes (all by default)."""
    return _shifted("fftshift", x, axes, 1)


def ifftshift(x: Any, /, *, axes: Any = None) -> Tensor:
    """The inverse of `fftshift`."""
    return _shifted("ifftshift", x, axes, -1)
