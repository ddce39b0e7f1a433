"""The fft extension: NumPy's values for lengths, axes, norms and dtypes, in both modes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx
from array_api import standard
from array_api.cases import MODES, Case, check, of_kinds, sample

REAL_IN = {"rfft", "rfftn", "ihfft"}


def _transforms() -> Iterator[Case]:
    for name in standard.words("fft ifft rfft irfft hfft ihfft"):
        for dtype in of_kinds("f" if name in REAL_IN else "c"):
            for shape in [(8,), (5,), (2, 3, 4)]:
                x = sample(dtype, shape, special=False)
                options: list[dict[str, Any]] = [
                    {},
                    {"n": 6},
                    {"n": 3},
                    {"axis": 0},
                    {"norm": "ortho"},
                    {"norm": "forward"},
                ]
                for option in options:
                    yield Case(f"fft.{name}", (x,), getattr(np.fft, name)(x, **option), option, 256)
    for name in standard.words("fftn ifftn rfftn irfftn"):
        for dtype in of_kinds("f" if name in REAL_IN else "c"):
            x = sample(dtype, (2, 3, 4), special=False)
            for option in [{}, {"axes": (0, 2)}, {"s": (4, 3), "axes": (1, 2)}, {"norm": "ortho"}, {"norm": "forward"}]:
                yield Case(f"fft.{name}", (x,), getattr(np.fft, name)(x, **option), option, 256)


def _frequencies() -> Iterator[Case]:
    for name in ("fftfreq", "rfftfreq"):
        for n in (1, 4, 7):
            for d in (1.0, 0.5):
                wanted = getattr(np.fft, name)(n, d)
                yield Case(f"fft.{name}", (n,), wanted.astype(np.float32), {"d": d, "device": "cpu"})
                yield Case(f"fft.{name}", (n,), wanted, {"d": d, "dtype": gx.float64})
    for name in ("fftshift", "ifftshift"):
        for dtype in of_kinds("fc"):
            x = sample(dtype, (3, 4, 5))
            for axes in (None, 0, (0, 2), -1):
                yield Case(f"fft.{name}", (x,), getattr(np.fft, name)(x, axes=axes), {"axes": axes})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [_transforms, _frequencies])
def test_values(mode: str, make: Any) -> None:
    check(mode, make())
