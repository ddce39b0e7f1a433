"""The errors of the math library's compiled code, in units in the last place: `python -m benchmarks.accuracy`.

float32 functions of one operand are run on every bit pattern there is, in chunks, and compared with the same function in
float64, whose own error does not show (below 1e-8 ulp of float32); those of two operands on a large sample. float64 is
compared with mpmath at 120 bits on some thousand points. What was measured is kept in docs/accuracy.json and written out as
docs/accuracy.md; the tests run every 257th pattern and hold both to the bounds that the ops declare.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import scipy.special
from tqdm import tqdm

import graphc.ops  # noqa: F401  (declares the ops)
from graphc.dtypes import DType, float32, float64, from_name
from graphc.frontend.build import Options, compile_stages
from graphc.ir import registry
from graphc.ir.graph import Graph, input_value, make
from graphc.ir.op import Elementwise
from graphc.ir.types import TensorType
from graphc.runtime.executable import Executable

__all__ = [
    "Errors",
    "compiled",
    "errors32",
    "errors64",
    "inexact",
    "measure32",
    "page",
    "pairs",
    "points64",
    "reference32",
]

Array = np.ndarray[Any, Any]
DOCS = Path(__file__).parent.parent / "docs"

#: Elements that are measured at once: they stay in cache.
CHUNK = 2**16
PATTERNS = 2**32
#: Bins of the histogram are a tenth of an ulp wide; all errors up to half an ulp, which rounding costs, are one bin.
TENTHS = 10
#: The last bin holds what is beyond.
BINS = 60

mpmath.mp.prec = 120


def inexact(arity: int | None = None) -> list[Elementwise]:
    """The ops whose results are not exactly rounded."""
    ops = [op for op in registry.all_ops() if isinstance(op, Elementwise) and not op.exact]
    return [op for op in ops if arity in (None, op.arity)]


def compiled(op: Elementwise, dtype: DType, size: int) -> Callable[..., Array]:
    """The op's native code for operands of so many elements, through the whole pipeline."""
    types = (TensorType(dtype, (size,)),) * op.arity
    graph = Graph(types, make(op, [input_value(i, t) for i, t in enumerate(types)]).results, op.name)
    _, code, _ = compile_stages(graph, {}, Options())
    executable = Executable(code.artifact)
    return lambda *arrays: executable.run(arrays)[0]


# -- references ---------------------------------------------------------------------------------------------------------------

#: Where NumPy has no function, or not under the op's name; else the op's own NumPy definition serves, in float64.
_WIDE: dict[str, Callable[..., Any]] = {
    "sigmoid": scipy.special.expit,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
}

_EXACT: dict[str, Callable[..., Any]] = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "exp2": lambda x: mpmath.mpf(2) ** x,
    "log2": lambda x: mpmath.log(x, 2),
    "log10": lambda x: mpmath.log(x, 10),
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "power": mpmath.power,
}


def reference32(op: Elementwise, *arrays: Array) -> Array:
    """The function in float64, right to far more than float32 shows."""
    function = _WIDE.get(op.name, op.numpy)
    with np.errstate(all="ignore"):
        return np.asarray(function(*(a.astype(np.float64) for a in arrays)))


def errors32(got: Array, exact: Array) -> Array:
    """Errors of float32 results in ulp of the exact ones, which are float64; infinite where one of the two is special and the
    other is not it, zeros of the wrong sign included. Overflow: infinity stands for 2**128."""
    wide = got.astype(np.float64)
    field = np.right_shift(exact.view(np.int64), 52) & 0x7FF
    # 2**(24 - e), where 2**(e - 1) <= |exact| < 2**e, or 2**149 for subnormals.
    inverse = np.left_shift(2 * 1023 + 23 - np.maximum(field, 1023 - 126), 52).view(np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(wide - exact) * inverse
        if not np.isfinite(error.max(initial=0.0)):
            error = _special(wide, exact, error)
    wrong_sign = (np.signbit(wide) != np.signbit(exact)) & ~np.isnan(exact)
    return np.where(wrong_sign, np.inf, error) if wrong_sign.any() else error


def _special(got: Array, exact: Array, error: Array) -> Array:
    greatest = 2.0**128
    finite = np.isfinite(exact)
    overflow = finite & np.isinf(got)
    clipped = np.clip(exact, -greatest, greatest)
    error = np.where(overflow, np.abs(np.copysign(greatest, got) - clipped) / 2.0**104, error)
    same = (got == exact) | (np.isnan(got) & np.isnan(exact))
    return np.where(same, 0.0, np.where(finite & ~np.isnan(got), error, np.inf))


def errors64(op: Elementwise, got: Array, *arrays: Array) -> list[float]:
    """Errors of float64 results in ulp, against mpmath."""
    function = _EXACT.get(op.name) or getattr(mpmath, op.name)
    found = []
    for i, value in enumerate(got):
        exact = function(*(mpmath.mpf(float(a[i])) for a in arrays))
        _, exponent = mpmath.frexp(exact)
        ulp = mpmath.ldexp(1, max(exponent - 53, -1074))
        clipped = np.copysign(1.0, value) * mpmath.ldexp(1, 1024) if np.isinf(value) else mpmath.mpf(float(value))
        if abs(exact) >= mpmath.ldexp(1, 1024):
            exact, ulp = mpmath.sign(exact) * mpmath.ldexp(1, 1024), mpmath.ldexp(1, 971)
        found.append(float(abs(clipped - exact) / ulp))
    return found


# -- points -------------------------------------------------------------------------------------------------------------------

#: Where a function is defined and finite, for float64.
_DOMAIN: dict[str, tuple[float, float]] = {
    "exp": (-746, 710),
    "exp2": (-1076, 1025),
    "expm1": (-60, 710),
    "log": (0, np.inf),
    "log2": (0, np.inf),
    "log10": (0, np.inf),
    "log1p": (-1, np.inf),
    "sigmoid": (-746, 60),
    "tanh": (-25, 25),
    "erf": (-7, 7),
    "erfc": (-8, 28),
    "asin": (-1, 1),
    "acos": (-1, 1),
    "atanh": (-1, 1),
    "acosh": (1, np.inf),
    "sinh": (-711, 711),
    "cosh": (-711, 711),
}


def points64(name: str, count: int, seed: int = 0) -> Array:
    """Points of the domain: uniform in it, uniform near 0 and 1, uniform in bits, and close to multiples of pi/4."""
    rng = np.random.default_rng([seed, len(name)])
    low, high = _DOMAIN.get(name, (-np.inf, np.inf))
    bound_low, bound_high = max(low, -1e4), min(high, 1e4)
    parts = [
        rng.uniform(bound_low, bound_high, count),
        rng.uniform(-3, 3, count),
        1 + rng.uniform(-1, 1, count // 2) * 10.0 ** rng.uniform(-16, 0, count // 2),
        rng.integers(0, 2**64, count, dtype=np.uint64).view(np.float64),
        rng.choice([-1, 1], count // 2) * 10.0 ** rng.uniform(-320, -1, count // 2),
        np.rint(10.0 ** rng.uniform(0, 14, count // 2)) * (np.pi / 4),
        np.array([0.55, 0.5, 1.0, 2.0**-28, 2.0**28, 2.0**-54, 5e-324, 2.0**-1022, 1.7e308]),
    ]
    points = np.concatenate(parts)
    return points[np.isfinite(points) & (points > low) & (points < high) & (points != 0)]


def pairs(dtype: Any, count: int, name: str, seed: int = 7) -> tuple[Array, Array]:
    """Operands of the binary functions: moderate ones, close ones, and any bits."""
    rng = np.random.default_rng([seed, count])
    bits = np.uint32 if dtype is np.float32 else np.uint64
    limit = 2 ** (8 * bits().itemsize)
    x = [10.0 ** rng.uniform(-5, 5, count), 1 + rng.uniform(-0.3, 0.4, count), 10.0 ** rng.uniform(-38, 38, count)]
    y = [rng.uniform(-20, 20, count), rng.uniform(-300, 300, count), rng.uniform(-3, 3, count)]
    first, second = np.concatenate(x).astype(dtype), np.concatenate(y).astype(dtype)
    if name != "power":
        first *= rng.choice([-1, 1], first.size).astype(dtype)
        second[::3] = first[::3] * rng.uniform(0.5, 2, first[::3].size).astype(dtype)
    any_bits = [rng.integers(0, limit, count, dtype=bits).view(dtype) for _ in range(2)]
    if name == "power":
        any_bits[0] = np.abs(any_bits[0])
    keep = np.isfinite(any_bits[0]) & np.isfinite(any_bits[1]) & (any_bits[0] != 0) & (any_bits[1] != 0)
    first, second = np.r_[first, any_bits[0][keep]], np.r_[second, any_bits[1][keep]]
    if name == "power" and dtype is np.float64:
        # Without exponents so large that mpmath would compute an astronomical number.
        moderate = np.abs(second * np.log2(first)) < 5000
        first, second = first[moderate], second[moderate]
    return first, second


def patterns(stride: int, start: int = 0, stop: int = PATTERNS) -> Iterator[Array]:
    """float32 numbers by bit pattern, in chunks of one size (the last one is filled up with its last pattern)."""
    for first in range(start, stop, CHUNK * stride):
        taken = np.arange(first, min(first + CHUNK * stride, stop), stride, dtype=np.uint64).astype(np.uint32)
        if taken.size < CHUNK:
            taken = np.concatenate([taken, np.full(CHUNK - taken.size, taken[-1])])
        yield taken.view(np.float32)


# -- measuring ----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Errors:
    """Errors counted: `histogram[k]` of them are in ((k - 1) / 10, k / 10] ulp, those up to half an ulp all in `histogram[5]`;
    the greatest one and the operands that gave it."""

    count: int = 0
    worst: float = 0.0
    at: list[float] = field(default_factory=list)
    histogram: list[int] = field(default_factory=lambda: [0] * (BINS + 1))

    def add(self, errors: Array, operands: Sequence[Array], exact: int = 0) -> None:
        """Count errors, and so many results besides that are correctly rounded."""
        self.count += errors.size + exact
        self.histogram[5] += exact
        if not errors.size:
            return
        large = errors[errors > 0.5]
        self.histogram[5] += errors.size - large.size
        if large.size:
            bins = np.ceil(np.minimum(large, BINS / TENTHS) * TENTHS - 1e-9).astype(np.int64)
            for k, found in enumerate(np.bincount(bins, minlength=BINS + 1)):
                self.histogram[k] += int(found)
        place = int(np.argmax(errors))
        if not self.at or errors[place] > self.worst:
            self.worst, self.at = float(errors[place]), [float(x[place]) for x in operands]


def measure32(op: Elementwise, chunks: Iterator[Sequence[Array]], run: Callable[..., Array] | None = None) -> Errors:
    """The errors of float32 code over chunks of operands of `CHUNK` elements each."""
    run = run or compiled(op, float32, CHUNK)
    found = Errors()
    for operands in chunks:
        _measure(found, run, operands, reference32(op, *operands))
    return found


def _measure(found: Errors, run: Callable[..., Array], operands: Sequence[Array], exact: Array) -> None:
    """Few results differ from the correctly rounded one: only these are looked at. (And all NaN, whose bits are free.)"""
    got = run(*operands)
    with np.errstate(all="ignore"):
        differ = np.flatnonzero(got.view(np.int32) != exact.astype(np.float32).view(np.int32))
    if differ.size == got.size and np.isnan(got).all() and np.isnan(exact).all():
        differ = differ[:0]
    rest = [x[differ] for x in operands]
    found.add(errors32(got[differ], exact[differ]), rest, got.size - differ.size)


#: f(-x) = sign * f(x): the reference is worked out for positive x only.
_SYMMETRY = dict.fromkeys(("asin", "asinh", "atan", "atanh", "cbrt", "erf", "sin", "sinh", "tan", "tanh"), -1.0)
_SYMMETRY |= dict.fromkeys(("cos", "cosh"), 1.0)


def _unary32(op: Elementwise, stride: int) -> Errors:
    sign = _SYMMETRY.get(op.name)
    stop = PATTERNS if sign is None else PATTERNS // 2
    run = compiled(op, float32, CHUNK)
    found = Errors()
    for x in tqdm(patterns(stride, 0, stop), op.name, stop // (CHUNK * stride), mininterval=20, file=sys.stderr):
        exact = reference32(op, x)
        _measure(found, run, (x,), exact)
        if sign is not None:
            _measure(found, run, (-x,), exact * sign)
    return found


def _binary32(op: Elementwise, count: int) -> Errors:
    def chunks() -> Iterator[Sequence[Array]]:
        for seed in tqdm(range(count // CHUNK), op.name, mininterval=20, file=sys.stderr):
            x, y = pairs(np.float32, CHUNK, op.name, seed)
            for start in range(0, x.size - CHUNK + 1, CHUNK):
                yield x[start : start + CHUNK], y[start : start + CHUNK]

    return measure32(op, chunks())


def measure64(op: Elementwise, count: int, seed: int = 1) -> Errors:
    """The errors of float64 code on points of the domain."""
    operands = (points64(op.name, count, seed),) if op.arity == 1 else pairs(np.float64, count, op.name, seed)
    run = compiled(op, float64, operands[0].size)
    found = Errors()
    found.add(np.array(errors64(op, run(*operands), *operands)), operands)
    return found


# -- the page -----------------------------------------------------------------------------------------------------------------


def page(measured: dict[str, dict[str, Any]]) -> str:
    """The text of docs/accuracy.md."""
    lines = [
        "# Accuracy of the math library",
        "",
        "Written by `python -m benchmarks.accuracy` from docs/accuracy.json, which holds what that command measured. Errors",
        "are in ulp, units in the last place of the exact result; half an ulp is what rounding costs. The bound is what the",
        "op declares: tests hold compiled code to it on every 257th float32 pattern, and this page's numbers on all of them.",
        "NaN, infinities and signs of zeros are right everywhere, or the worst error would be infinite here.",
        "",
    ]
    for dtype, title, arity in (
        ("f32", "float32, one operand: every bit pattern", 1),
        ("f32", "float32, two operands, a sample", 2),
        ("f64", "float64, a sample against mpmath", None),
    ):
        lines += [
            f"## {title}",
            "",
            "| op | operands | within half an ulp | worst | at | bound |",
            "|---|---|---|---|---|---|",
        ]
        ops = [op for op in inexact(arity) if dtype in measured.get(op.name, {})]
        lines += [_row(op, dtype, Errors(**measured[op.name][dtype])) for op in ops] + [""]
        if dtype == "f32" and ops:
            lines += ["How many results have an error up to so many ulp (and above the number before):", "", "```text"]
            lines += [_histogram(op, Errors(**measured[op.name][dtype])) for op in ops] + ["```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _row(op: Elementwise, dtype: str, found: Errors) -> str:
    share = 100 * found.histogram[5] / found.count
    at = ", ".join(f"{x:.9g}" if dtype == "f32" else repr(x) for x in found.at)
    worst = f"{found.worst:.3f} | {at}" if found.worst > 0.5 else "0.5 | all correctly rounded"
    return f"| {op.name} | {found.count:,} | {share:.2f} % | {worst} | {op.bound(from_name(dtype)):g} |"


def _histogram(op: Elementwise, found: Errors) -> str:
    bins = [f"{k / TENTHS:g}: {n:,}" for k, n in enumerate(found.histogram) if n]
    return f"{op.name:8} " + "  ".join(bins)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the ops that are named (all that are not measured yet, if none is) and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("ops", nargs="*", help="names of ops")
    parser.add_argument("--stride", type=int, default=1, help="every so manieth float32 pattern; not kept unless 1")
    parser.add_argument("--pairs", type=int, default=2**24, help="operands of binary ops, about a quarter")
    parser.add_argument("--points", type=int, default=4000, help="about a quarter of the float64 points")
    parser.add_argument("--page", action="store_true", help="write the page only")
    options = parser.parse_args(arguments)
    kept = DOCS / "accuracy.json"
    measured = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    known = {op.name: op for op in inexact()}
    names = options.ops or [name for name in known if name not in measured]
    for name in [] if options.page else names:
        op = known[name]
        single = _unary32(op, options.stride) if op.arity == 1 else _binary32(op, options.pairs)
        found = {"f32": asdict(single), "f64": asdict(measure64(op, options.points))}
        print(f"{name}: f32 {single.worst:.4f} at {single.at}, f64 {found['f64']['worst']:.4f} at {found['f64']['at']}")
        if options.stride == 1:
            measured = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
            measured[name] = found
            kept.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    (DOCS / "accuracy.md").write_text(page(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
