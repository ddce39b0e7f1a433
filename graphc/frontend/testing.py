"""Checks that users run on their own functions. Layer 5. `gx.testing`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.errors import GradientError, OptionError, message
from graphc.frontend import pytree
from graphc.frontend.promotion import as_tensor
from graphc.frontend.recording import check_callable, is_smooth
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, native_array
from graphc.frontend.transforms import jvp, vjp

__all__ = ["check_grads"]

Array = np.ndarray[Any, Any]

#: Step and tolerance of central differences by dtype: the cube root of the unit roundoff, and some of its square.
_STEPS = {"float64": (6e-6, 1e-6), "float32": (5e-3, 2e-2), "float16": (5e-2, 1e-1)}


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    seed: int = 0,
) -> None:
    """Compare derivatives of a function with central differences, along random directions.

    Forward mode is compared with differences of the function; reverse mode with the same, through <ct, J t> = <J^T ct, t>. For
    `order` 2 the derivative is checked in the same way as a function of the arguments, and so on.

    Parameters
    ----------
    f
        A function of arrays, or containers of them, that gives the like. What is not floating point is left alone.
    args
        Its arguments, as a tuple; float64 shows most. Choose points where the function is smooth.
    order
        The highest derivative that is checked.
    modes
        "fwd" (`jvp`), "rev" (`vjp`), or both; for higher orders in all combinations.
    atol, rtol
        By default 1e-6 for float64 and 2e-2 for float32, ten times more for each order after the first.
    eps
        The step of the differences; by default 6e-6 for float64 and 5e-3 for float32.

    Raises
    ------
    GradientError
        If a derivative is wrong: says which, at which order, and by how much.

    >>> import numpy as np, graphc as gx
    >>> gx.testing.check_grads(lambda x: np.sin(x) * x, (np.array([0.5, 2.0]),), order=2)
    """
    check_callable("testing.check_grads", f)
    if not modes or any(m not in ("fwd", "rev") for m in modes) or order < 1:
        raise OptionError(
            message(
                f"modes are 'fwd' and 'rev', and the order is at least 1; these are {modes!r} and {order!r}",
                location=user_location(),
                hint='Write check_grads(f, args, order=2, modes=("fwd", "rev")).',
            )
        )
    leaves, _, structure = pytree.flatten(tuple(args))
    places = [i for i, x in enumerate(leaves) if is_smooth(x)]
    points = [np.array(x if isinstance(x, Tensor) else native_array(x)) for x in (leaves[i] for i in places)]
    if not points:
        raise GradientError(
            message(
                "there is no floating-point value among the arguments to check derivatives by",
                location=user_location(),
                hint="Convert them with astype(np.float64).",
            )
        )

    def function(*xs: Any) -> tuple[Any, ...]:
        whole = list(leaves)
        for place, x in zip(places, xs, strict=True):
            whole[place] = x
        result = f(*pytree.unflatten(structure, whole))
        return tuple(y for y in pytree.flatten(result)[0] if is_smooth(y))

    least = min(points, key=lambda x: np.finfo(x.dtype).bits).dtype.name
    step, tolerance = _STEPS[least]
    limits = (tolerance if atol is None else atol, tolerance if rtol is None else rtol)
    _check(function, points, order, tuple(modes), limits, step if eps is None else eps, np.random.default_rng(seed), ())


def _check(
    function: Callable[..., tuple[Any, ...]],
    points: list[Array],
    order: int,
    modes: tuple[str, ...],
    limits: tuple[float, float],
    step: float,
    rng: np.random.Generator,
    done: tuple[str, ...],
) -> None:
    """Check the first derivative of a function, and then, as functions, its derivatives."""
    tangents = [np.asarray(rng.normal(size=x.shape), x.dtype) for x in points]
    values = [np.asarray(y) for y in function(*points)]
    cotangents = [np.asarray(rng.normal(size=y.shape), y.dtype) for y in values]
    up, down = ([np.asarray(y, np.float64) for y in function(*_moved(points, tangents, h))] for h in (step, -step))
    slopes = [(u - d) / (2 * step) for u, d in zip(up, down, strict=True)]
    if "fwd" in modes:
        found = jvp(function, points, tangents)[1]
        for number, (t, slope) in enumerate(zip(found, slopes, strict=True)):
            _compare(np.asarray(t, np.float64), slope, limits, (*done, "fwd"), f"the tangent of result {number}")
    if "rev" in modes:
        pulled = vjp(function, *points)[1](tuple(cotangents))
        across = _inner(pulled, tangents)
        _compare(across, _inner(cotangents, slopes), limits, (*done, "rev"), "the cotangents along a direction")
    if order == 1:
        return
    loose = (10 * limits[0], 10 * limits[1])
    if "fwd" in modes:
        _check(
            lambda *xs: tuple(y for y in jvp(function, xs, _as(tangents, xs))[1]),
            *(points, order - 1, modes, loose, step, rng, (*done, "fwd")),
        )
    if "rev" in modes:
        _check(
            lambda *xs: tuple(vjp(function, *xs)[1](tuple(map(_constant, cotangents)))),
            *(points, order - 1, modes, loose, step, rng, (*done, "rev")),
        )


def _constant(x: Array) -> Any:
    return as_tensor(x)


def _as(tangents: Sequence[Array], xs: Sequence[Any]) -> list[Any]:
    return [_constant(t) if isinstance(x, Tensor) else t for t, x in zip(tangents, xs, strict=True)]


def _moved(points: Sequence[Array], tangents: Sequence[Array], by: float) -> list[Array]:
    return [np.asarray(x + x.dtype.type(by) * t) for x, t in zip(points, tangents, strict=True)]


def _inner(xs: Sequence[Any], ys: Sequence[Any]) -> Array:
    total = sum(
        float(np.sum(np.asarray(x, np.float64) * np.asarray(y, np.float64))) for x, y in zip(xs, ys, strict=True)
    )
    return np.asarray(total)


def _compare(found: Array, expected: Array, limits: tuple[float, float], path: tuple[str, ...], what: str) -> None:
    atol, rtol = limits
    scale = float(np.max(np.abs(expected), initial=0.0))
    wrong = ~(np.abs(found - expected) <= atol + rtol * np.maximum(np.abs(expected), scale))
    if not wrong.any():
        return
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    kinds = {"fwd": "jvp", "rev": "vjp"}
    raise GradientError(
        message(
            f"check_grads: {what} is wrong at order {len(path)} ({' of '.join(kinds[p] for p in reversed(path))})",
            operands=[
                ("derivative", f"{float(found[at]):.9g}" + (f" at {at}" if at else "")),
                ("central difference", f"{float(expected[at]):.9g}"),
                ("wrong elements", f"{int(wrong.sum())} of {wrong.size}"),
            ],
            location=user_location(),
            hint="If the rule is right, the function may not be smooth there, or the step (eps) may not suit its scale.",
        )
    )
