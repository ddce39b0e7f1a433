"""Calls of the namespace's functions in both modes, many in one compiled graph, and how their results are compared.

A `Case` is a call with NumPy arrays where the function takes arrays; all else (numbers, axes, dtypes) is static. `check` runs
cases dynamically and compiled: the compiled ones, hundreds in one graph, with every array traced.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import graphc as gx
from array_api import standard
from graphc.frontend import pytree

#: How many calls one compiled graph holds.
CHUNK = 250


@dataclass(frozen=True)
class Case:
    """A call and what it must give: an array, or a tuple or list of them, or a plain value.

    `ulps` is the distance that floats may have; 0 asks for the same bits, signs of zeros included (NaNs are all alike).
    """

    name: str
    args: tuple[Any, ...]
    expected: Any
    kwargs: dict[str, Any] = field(default_factory=dict)
    ulps: float = 0
    call: Callable[..., Any] | None = None

    def __str__(self) -> str:
        parts = [_text(a) for a in self.args] + [f"{k}={_text(v)}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(parts)})"


def _text(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"{x.dtype}{list(x.shape)}" if x.size > 6 else f"{x.dtype}:{x.tolist()}"
    if isinstance(x, (tuple, list)) and any(isinstance(i, np.ndarray) for i in x):
        return f"[{', '.join(map(_text, x))}]"
    return repr(x)


def calls(name: str, arguments: Iterable[tuple[tuple[Any, ...], dict[str, Any]]], ulps: float = 0) -> Iterator[Case]:
    """Cases whose results are those of NumPy's function of the same name."""
    reference: Any = np
    for part in name.split("."):
        reference = getattr(reference, part)
    for args, kwargs in arguments:
        with np.errstate(all="ignore"):
            yield Case(name, args, reference(*args, **kwargs), kwargs, ulps)


def _run(case: Case, args: Any, kwargs: Any) -> Any:
    function = case.call or standard.function(case.name)
    return function(*args, **kwargs)


def _arrays(case: Case) -> tuple[list[Any], list[int], Any]:
    """Leaves of a case's arguments with arrays as Tensors, the places of the Tensors, and the structure."""
    leaves, _, structure = pytree.flatten((case.args, case.kwargs))
    # Each an array of its own: memory that calls share would be another test.
    leaves = [gx.asarray(leaf.copy()) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
    return leaves, [i for i, leaf in enumerate(leaves) if isinstance(leaf, gx.Tensor)], structure


def prepared(case: Case) -> tuple[Any, Any]:
    """The arguments of a case, with Tensors for arrays."""
    leaves, _, structure = _arrays(case)
    args, kwargs = pytree.unflatten(structure, leaves)
    return args, kwargs


def dynamic(cases: Sequence[Case]) -> list[Any]:
    """The results of dynamic mode, exceptions included."""
    results: list[Any] = []
    for case in cases:
        results.append(_caught(_run, case, *prepared(case)))
    return results


def _caught(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        return error


def compiled(cases: Sequence[Case]) -> list[Any]:
    """The results of compiled code; where a whole chunk cannot be traced, of its cases one by one."""
    results: list[Any] = []
    for start in range(0, len(cases), CHUNK):
        chunk = cases[start : start + CHUNK]
        found = _caught(_compiled, chunk)
        if isinstance(found, Exception):
            found = [r[0] if isinstance(r, list) else r for r in (_caught(_compiled, [case]) for case in chunk)]
        results += found
    return results


def _compiled(cases: Sequence[Case]) -> list[Any]:
    parts = [_arrays(case) for case in cases]

    def function(*tensors: Any) -> list[Any]:
        supply = iter(tensors)
        results = []
        for case, (leaves, places, structure) in zip(cases, parts, strict=True):
            filled = list(leaves)
            for place in places:
                filled[place] = next(supply)
            args, kwargs = pytree.unflatten(structure, filled)
            results.append(_run(case, args, kwargs))
        return results

    found: list[Any] = gx.compile(function)(*(leaves[p] for leaves, places, _ in parts for p in places))
    return found


#: How cases are run, and how many of them: compiled, a sample of all is enough for every day.
MODES = [
    "dynamic",
    "compiled",
    pytest.param("all compiled", marks=pytest.mark.slow),
]
SAMPLE = 120


def check(mode: str, cases: Iterable[Case], most: int = SAMPLE) -> None:
    """Run cases in a mode (`compiled`: `most` of them) and compare; all that differ are reported together."""
    listed = list(cases)
    assert listed, "no cases"
    if mode == "compiled" and len(listed) > most:
        listed = random.Random(len(listed)).sample(listed, most)
    faults = []
    for case, found in zip(listed, (dynamic if mode == "dynamic" else compiled)(listed), strict=True):
        fault = difference(found, case.expected, case.ulps)
        if fault is not None:
            faults.append(f"{case}: {fault}")
    assert not faults, f"{len(faults)} of {len(listed)} {mode} calls:\n" + "\n".join(faults[:60])


def difference(found: Any, expected: Any, ulps: float) -> str | None:
    """What is wrong with a result, or None."""
    if isinstance(found, Exception):
        return f"{type(found).__name__}: {str(found).splitlines()[0]}"
    if isinstance(expected, (tuple, list)):
        if not isinstance(found, (tuple, list)) or len(found) != len(expected):
            return f"{type(found).__name__} instead of {len(expected)} results"
        parts = (difference(f, e, ulps) for f, e in zip(found, expected, strict=True))
        return next((p for p in parts if p is not None), None)
    if not isinstance(expected, (np.ndarray, np.generic)):
        return None if type(found) is type(expected) and found == expected else f"{found!r} instead of {expected!r}"
    if not isinstance(found, gx.Tensor):
        return f"a {type(found).__name__} instead of a Tensor"
    array, wanted = found.numpy(), np.asarray(expected)
    if array.dtype != wanted.dtype:
        return f"dtype {array.dtype} instead of {wanted.dtype}"
    if array.shape != wanted.shape:
        return f"shape {array.shape} instead of {wanted.shape}"
    wrong = _wrong(array, wanted, ulps)
    if not wrong.any():
        return None
    place = tuple(int(i[0]) for i in np.nonzero(wrong))
    return f"{array[place]!r} instead of {wanted[place]!r} at {place} ({int(wrong.sum())} wrong)"


def _wrong(found: Any, expected: Any, ulps: float) -> Any:
    if expected.dtype.kind == "c":
        if ulps == 0:
            return _wrong(found.real, expected.real, 0) | _wrong(found.imag, expected.imag, 0)
        size = np.abs(expected)
        with np.errstate(all="ignore"):
            near = np.abs(found - expected) <= ulps * np.spacing(np.where(np.isfinite(size), size, 1))
        return ~near & (_wrong(found.real, expected.real, ulps) | _wrong(found.imag, expected.imag, ulps))
    if expected.dtype.kind != "f":
        return found != expected
    same = (found == expected) & (np.signbit(found) == np.signbit(expected)) | np.isnan(found) & np.isnan(expected)
    if ulps == 0:
        return ~same
    with np.errstate(all="ignore"):
        wide, exact = found.astype(np.float64), expected.astype(np.float64)
        near = np.abs(wide - exact) <= ulps * np.spacing(np.abs(expected)).astype(np.float64)
    return ~(same | (near & np.isfinite(exact) & np.isfinite(wide)))


def but(case: Case, **changes: Any) -> Case:
    """The case with some fields changed."""
    return dataclasses.replace(case, **changes)


# -- samples ------------------------------------------------------------------------------------------------------------

#: Pairs of shapes that broadcast: ranks 0 to 5, sizes 0 and 1, odd ones.
SHAPE_PAIRS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((), ()),
    ((7,), (7,)),
    ((3, 5), ()),
    ((), (2, 0)),
    ((0,), (1,)),
    ((4, 1), (1, 5)),
    ((2, 3, 4), (3, 1)),
    ((1, 0, 3), (2, 1, 3)),
    ((2, 1, 3, 2), (5, 1, 1)),
    ((1, 2, 1, 3, 2), (2, 1, 2, 1, 2)),
]
#: Shapes of one array, likewise.
SHAPES: list[tuple[int, ...]] = [
    (),
    (7,),
    (0,),
    (1,),
    (3, 5),
    (2, 0),
    (2, 3, 4),
    (1, 0, 3),
    (2, 1, 3, 2),
    (2, 1, 2, 1, 3),
]

_FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 7.25, -100.0, 1e-5, 1e10, np.inf, -np.inf, np.nan]


def sample(
    dtype: str, shape: tuple[int, ...], seed: int = 0, *, special: bool = True, low: Any = None, high: Any = None
) -> Any:
    """An array of a dtype with values all over it: extremes of integers, special floats (unless refused), or within bounds."""
    rng = np.random.default_rng([seed, *shape, *dtype.encode()])
    kind = np.dtype(dtype).kind
    if kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    if kind in "iu":
        limits = np.iinfo(dtype)
        drawn = rng.integers(
            max(limits.min, -100) if low is None else low,
            min(limits.max, 100) if high is None else high,
            shape,
            endpoint=True,
        )
        array = np.asarray(drawn).astype(dtype)
        if low is None and high is None and special:
            extremes = np.asarray(rng.choice(np.array([0, 1, limits.max, limits.min], dtype), shape), dtype)
            array = np.where(rng.random(shape) < 0.3, extremes, array)
        return np.asarray(array, dtype)
    if kind == "c":
        part = "float32" if dtype == "complex64" else "float64"
        parts = [sample(part, shape, seed + k, special=special, low=low, high=high) for k in (0, 1)]
        made = np.empty(shape, dtype)
        made.real, made.imag = parts
        return made
    array = rng.uniform(-5 if low is None else low, 5 if high is None else high, shape)
    if special and low is None and high is None:
        array = np.where(rng.random(shape) < 0.4, rng.choice(_FLOATS, shape), array)
    return np.asarray(array, dtype)


def of_kinds(kinds: str) -> list[str]:
    """The standard's dtypes of these kinds that graphc has."""
    return [d for d in standard.DTYPES if np.dtype(d).kind in kinds and hasattr(gx, d)]


def promotes(first: str, second: str) -> bool:
    """Whether the standard defines what two dtypes promote to."""
    kinds = {np.dtype(first).kind, np.dtype(second).kind}
    if kinds == {"i", "u"}:
        return "uint64" not in (first, second)
    return len(kinds) == 1 or kinds == {"f", "c"}
