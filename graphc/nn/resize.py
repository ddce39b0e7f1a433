"""`interpolate`: images resampled to another size. Layer 6. Modes, coordinates and rounding are PyTorch's.

Every mode but "area" is separable: along each axis a result is a weighted sum of one, two or four elements, whose places
and weights are constants. Places beyond the ends are those of the ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import ShapeError, StructureError, message
from graphc.frontend import shaping
from graphc.frontend.promotion import as_tensor, convert, describe, op
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.frontend.windowing import per_axis
from graphc.ir.graph import Literal
from graphc.nn.spatial import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

__all__ = ["interpolate", "pixel_shuffle", "pixel_unshuffle", "upsample"]

Array = Any
Vector = np.ndarray[Any, Any]

#: Ranks (without samples and channels) that a mode is defined for.
_RANKS = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "area": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "trilinear": (3,),
    "bicubic": (2,),
}
_ALIGNED = ("linear", "bilinear", "trilinear", "bicubic")
_AREA = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}
#: Keys, "Cubic convolution interpolation for digital image processing", IEEE ASSP 29 (1981), has -0.5; PyTorch, like other
#: image libraries, -0.75.
_CUBIC = -0.75


def interpolate(
    input: Array,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """[N, C, spatial axes] resampled along its spatial axes.

    Parameters
    ----------
    size, scale_factor
        The new size, or its ratio to the old one: one number, or one for each axis. A ratio that is given also gives the
        coordinates, unless `recompute_scale_factor`: then these are of the ratio of sizes.
    mode
        "nearest" (the element at floor(i / scale)), "nearest-exact" (at floor((i + 0.5) / scale)), "linear", "bilinear",
        "trilinear", "bicubic", or "area" (adaptive average pooling).
    align_corners
        Whether the first and last elements' centres are kept (otherwise the outer edges are). For the linear and cubic
        modes.

    Raises
    ------
    ShapeError
        If the rank does not fit the mode, or a size is 0.
    """
    x = as_tensor(input)
    rank = x.ndim - 2
    _check(x, rank, size, scale_factor, mode, align_corners)
    sizes, scales = _sizes(x, rank, size, scale_factor)
    if recompute_scale_factor:
        scales = (None,) * rank
    if not all((*sizes, *x.shape[2:])):
        raise ShapeError(
            message(
                f"interpolate: sizes must be at least 1: {list(x.shape[2:])} to {list(sizes)}",
                operands=[("input", describe(x))],
                location=user_location(),
                hint="Give the size, or a larger scale_factor.",
            )
        )
    if mode == "area":
        return _AREA[rank](x, sizes)
    for axis, (new, scale) in enumerate(zip(sizes, scales, strict=True), start=2):
        old = x.shape[axis]
        if new == old and (scale is None or scale == 1 or mode.endswith("linear")):
            continue
        x = _resampled(x, axis, _taps(mode, old, new, scale, bool(align_corners)))
    return x


def _check(x: Tensor, rank: int, size: Any, scale_factor: Any, mode: str, align_corners: bool | None) -> None:
    fault = hint = ""
    if mode not in _RANKS:
        fault, hint = f"mode {mode!r} is not known", f"Modes are {', '.join(map(repr, _RANKS))}."
    elif (size is None) == (scale_factor is None):
        fault, hint = "takes either size or scale_factor", "Give one of them."
    elif align_corners is not None and mode not in _ALIGNED:
        fault, hint = f"align_corners has no meaning for mode {mode!r}", "Leave it out."
    if fault:
        raise StructureError(message(f"interpolate: {fault}", location=user_location(), hint=hint))
    if rank not in _RANKS[mode]:
        ranks = " or ".join(str(r + 2) for r in _RANKS[mode])
        raise ShapeError(
            message(
                f"interpolate: mode {mode!r} takes an input of rank {ranks}",
                operands=[("input", describe(x))],
                location=user_location(),
                hint="The input is [N, C, spatial axes].",
            )
        )


def _sizes(x: Tensor, rank: int, size: Any, scale_factor: Any) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """New sizes, and the ratios that coordinates are made with where they were given."""
    if size is not None:
        return per_axis("interpolate", "size", size, rank, least=0), (None,) * rank
    given = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * rank
    scales = tuple(float(s) for s in given)
    if len(scales) != rank or not all(s > 0 and math.isfinite(s) for s in scales):
        raise ShapeError(
            message(
                f"interpolate: scale_factor must be a positive number, or one for each of {rank} axes, not {scale_factor!r}",
                location=user_location(),
                hint="It is the ratio of the new size to the old one.",
            )
        )
    return tuple(math.floor(n * s) for n, s in zip(x.shape[2:], scales, strict=True)), scales


def _coordinates(old: int, new: int, scale: float | None, aligned: bool) -> Vector:
    """Where the new elements' centres are among the old ones."""
    places = np.arange(new)
    if aligned:
        return places * ((old - 1) / (new - 1) if new > 1 else 0.0)
    return (places + 0.5) * (old / new if scale is None else 1 / scale) - 0.5


def _taps(mode: str, old: int, new: int, scale: float | None, aligned: bool) -> list[tuple[Vector, Vector | None]]:
    """Pairs of places and weights (None: 1)."""
    if mode.startswith("nearest"):
        shift = 0.5 if mode == "nearest-exact" else 0.0
        # PyTorch computes these coordinates in float32.
        ratio = np.float32(old / new if scale is None else 1 / scale)
        found = np.floor((np.arange(new, dtype=np.float32) + np.float32(shift)) * ratio)
        return [(np.minimum(found.astype(np.int64), old - 1), None)]
    at = _coordinates(old, new, scale, aligned)
    if mode != "bicubic":
        at = np.maximum(at, 0.0)
        low = np.minimum(np.floor(at).astype(np.int64), old - 1)
        rest = np.clip(at - low, 0.0, 1.0)
        return [(low, 1 - rest), (np.minimum(low + 1, old - 1), rest)]
    low = np.floor(at).astype(np.int64)
    rest = at - low
    near, far = _cubic_near, _cubic_far
    weights = (far(rest + 1), near(rest), near(1 - rest), far(2 - rest))
    return [(np.clip(low + k, 0, old - 1), w) for k, w in zip((-1, 0, 1, 2), weights, strict=True)]


def _cubic_near(t: Vector) -> Vector:
    """The kernel for |t| <= 1."""
    return ((_CUBIC + 2) * t - (_CUBIC + 3)) * t * t + 1


def _cubic_far(t: Vector) -> Vector:
    """The kernel for 1 < |t| < 2."""
    return ((t - 5) * t + 8) * t * _CUBIC - 4 * _CUBIC


def _resampled(x: Tensor, axis: int, taps: Sequence[tuple[Vector, Vector | None]]) -> Tensor:
    """Weighted sums of elements along an axis."""
    if x.dtype.kind in "biu":
        (places, weights), *_ = taps
        if weights is None:
            return op("take", x, as_tensor(places), axis=axis, mode="clip")
        x = convert(x, np.float64)
    table = np.stack([places for places, _ in taps])
    factors = np.stack([np.ones(table.shape[1]) if weights is None else weights for _, weights in taps])
    return op("resample", x, axis=axis, places=Literal(table), weights=Literal(factors))


def upsample(
    input: Array, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """`interpolate` by its older name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def _factor(name: str, what: str, factor: Any, x: Tensor, fits: bool) -> int:
    number = shaping.integer(name, what, factor)
    if number < 1 or x.ndim < 3 or not fits:
        raise ShapeError(
            message(
                f"{name}: {what} {number} does not fit the input",
                operands=[("input", describe(x))],
                location=user_location(),
                hint="The input is [.., C, H, W]; the factor's square divides C (shuffle), or it divides H and W (unshuffle).",
            )
        )
    return number


def pixel_shuffle(input: Array, upscale_factor: int) -> Tensor:
    """[.., C * r * r, H, W] to [.., C, H * r, W * r] (Shi et al., CVPR 2016)."""
    x = as_tensor(input)
    r = shaping.integer("pixel_shuffle", "upscale_factor", upscale_factor)
    r = _factor("pixel_shuffle", "upscale_factor", r, x, r > 0 and x.ndim > 2 and x.shape[-3] % (r * r) == 0)
    *lead, c, h, w = x.shape
    n = len(lead)
    apart = shaping.reshape(x, (*lead, c // (r * r), r, r, h, w))
    turned = shaping.permute_dims(apart, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return shaping.reshape(turned, (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Array, downscale_factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`: [.., C, H * r, W * r] to [.., C * r * r, H, W]."""
    x = as_tensor(input)
    r = shaping.integer("pixel_unshuffle", "downscale_factor", downscale_factor)
    fits = r > 0 and x.ndim > 2 and x.shape[-1] % r == 0 and x.shape[-2] % r == 0
    r = _factor("pixel_unshuffle", "downscale_factor", r, x, fits)
    *lead, c, h, w = x.shape
    n = len(lead)
    apart = shaping.reshape(x, (*lead, c, h // r, r, w // r, r))
    turned = shaping.permute_dims(apart, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return shaping.reshape(turned, (*lead, c * r * r, h // r, w // r))
