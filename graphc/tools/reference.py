"""The reference pages: every op of the IR, every public name. Layer 7.

`python -m graphc.tools.reference` writes docs/reference/ops.md and docs/reference/namespace.md (into another folder if one is
named); a test wants them current. Every fact comes from where it is declared: formulas and behaviour from the ops' docs, dtypes
from their type rules, values at special operands from their scalar rules, derivatives from their derivative rules, bounds
from `Elementwise.ulp`, signatures and first lines from the functions themselves.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dtypes import DType, bool_, complex128, float32, float64, int8, int64, uint32, uint64
from graphc.errors import GraphcError, NoDerivativeError
from graphc.ir import registry
from graphc.ir.graph import Attribute, Literal
from graphc.ir.op import (
    Composite,
    Contraction,
    Cumulative,
    Elementwise,
    Expansion,
    Fused,
    Indexing,
    Op,
    Reduction,
    Sorting,
)
from graphc.ir.types import TensorType, Type
from graphc.ops.numpy_scalar import NumpyScalar
from graphc.tools.formula import attribute, derivative, names
from graphc.tools.public import sections

__all__ = ["Example", "accepted", "dtype_names", "example", "namespace_page", "ops_page", "pages"]

Array = np.ndarray[Any, Any]


# -- examples -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Example:
    """Operand types and attributes that an op takes: what its derivative is shown for."""

    types: tuple[Type, ...]
    attrs: Mapping[str, Attribute] = field(default_factory=dict)


def _f64(*shapes: tuple[int, ...]) -> tuple[TensorType, ...]:
    return tuple(TensorType(float64, shape) for shape in shapes)


_PAIRS = ((0, 0), (0, 0))
_INDICES = TensorType(int64, (2,))
_WINDOWS = Example(_f64((8,)), {"axes": (0,), "sizes": (2,), "steps": (2,), "dilations": (1,)})
_MATRIX = Example(_f64((3, 3)))
_MATRICES = Example(_f64((3, 3), (3, 2)))
_PLACES = Literal(np.array([[0, 1, 2], [1, 2, 3]]))
_WEIGHTS = Literal(np.array([[0.75, 0.5, 0.25], [0.25, 0.5, 0.75]]))

#: Where the kind does not say which operands and attributes an op takes.
_EXAMPLES: dict[str, Example] = {
    "dot": Example(
        _f64((2, 3), (3, 4)), {"lhs_batch": (), "rhs_batch": (), "lhs_contract": (1,), "rhs_contract": (0,)}
    ),
    "reshape": Example(_f64((2, 3)), {"shape": (6,)}),
    "transpose": Example(_f64((2, 3)), {"perm": (1, 0)}),
    "broadcast": Example(_f64((1, 3)), {"shape": (2, 3)}),
    "slice": Example(_f64((9,)), {"start": (1,), "size": (4,), "step": (2,)}),
    "pad": Example(_f64((4,), ()), {"low": (1,), "high": (2,)}),
    "concatenate": Example(_f64((2, 3), (4, 3)), {"axis": 0}),
    "windows": Example(_f64((8,)), {"axis": 0, "size": 3, "step": 1, "dilation": 1}),
    "window_sum": _WINDOWS,
    "window_max": _WINDOWS,
    "window_min": _WINDOWS,
    "convolution": Example(
        _f64((2, 3, 8, 8), (4, 3, 3, 3)),
        {"strides": (1, 1), "padding": _PAIRS, "input_dilation": (1, 1), "kernel_dilation": (1, 1), "groups": 1},
    ),
    "resample": Example(_f64((4,)), {"axis": 0, "places": _PLACES, "weights": _WEIGHTS}),
    "take": Example((*_f64((5, 3)), _INDICES), {"axis": 0, "mode": "raise"}),
    "barrier": Example(_f64((3,)), {"instance": 0}),
    "stop_gradient": Example(_f64((3,)), {}),
    "as_parts": Example((TensorType(complex128, (3,)),)),
    "from_parts": Example(_f64((3, 2))),
    "convert": Example((TensorType(float32, (3,)),), {"dtype": float64}),
    "select": Example((TensorType(bool_, (3,)), *_f64((3,), (3,)))),
    "fft": Example((TensorType(complex128, (4, 3)),), {"axes": (1,), "inverse": False, "norm": "backward"}),
    "rfft": Example(_f64((4,)), {"axis": 0, "norm": "backward"}),
    "irfft": Example((TensorType(complex128, (3,)),), {"axis": 0, "samples": 4, "norm": "backward"}),
    "gamma_from_bits": Example((TensorType(uint64, (3,)), *_f64((3,)))),
    "cholesky": _MATRIX,
    "det": _MATRIX,
    "eig": Example((TensorType(complex128, (3, 3)),)),
    "eigvals": Example((TensorType(complex128, (3, 3)),)),
    "eigh": Example(_MATRIX.types, {"uplo": "L"}),
    "eigvalsh": Example(_MATRIX.types, {"uplo": "L"}),
    "inv": _MATRIX,
    "pinv": Example(_MATRIX.types, {"rtol": None}),
    "qr": Example(_MATRIX.types, {"mode": "reduced"}),
    "slogdet": _MATRIX,
    "solve": _MATRICES,
    "svd": Example(_MATRIX.types, {"full_matrices": False}),
    "svdvals": _MATRIX,
}


def example(op: Op) -> Example | None:
    """What an op is shown with; None for ops that have no derivative of their own to show."""
    if op.name in _EXAMPLES:
        return _EXAMPLES[op.name]
    for dtype in (float64, *dtypes.ALL):
        found = _of_kind(op, dtype)
        if found is not None and _takes(op, found.types, found.attrs):
            return found
    return None


def _of_kind(op: Op, dtype: DType) -> Example | None:
    matrix = TensorType(dtype, (4, 3))
    if isinstance(op, Elementwise):
        return Example((TensorType(dtype, (3,)),) * op.arity)
    if isinstance(op, Reduction):
        return Example((matrix,), {"axes": (1,)})
    if isinstance(op, Cumulative):
        return Example((matrix,) * op.arity, {"axis": 1, "reverse": False})
    if isinstance(op, Sorting):
        return Example((matrix,), {"axis": 1})
    if isinstance(op, Indexing):
        rows = TensorType(dtype, (2, 3))
        return Example((matrix, _INDICES, rows), {"axis": 0, "mode": "raise"})
    return None


def _takes(op: Op, types: tuple[Type, ...], attrs: Mapping[str, Attribute]) -> bool:
    try:
        op.infer(types, attrs)
    except GraphcError:
        return False
    return True


# -- facts of an op -----------------------------------------------------------------------------------------------------------


def accepted(op: Op) -> list[DType]:
    """The dtypes that an op takes in place of the (last) dtype of its example; empty for ops without an example."""
    shown = example(op)
    if shown is None:
        return []
    tensors = [t for t in shown.types if isinstance(t, TensorType) and t is not _INDICES]
    base = tensors[-1].dtype

    def turned(t: Type, dtype: DType) -> Type:
        if not isinstance(t, TensorType) or t is _INDICES or t.dtype is not base:
            return t
        return TensorType(dtype, t.shape)

    return [d for d in dtypes.ALL if _takes(op, tuple(turned(t, d) for t in shown.types), shown.attrs)]


def dtype_names(op: Op) -> str:
    """The names of `accepted(op)`, or "all"."""
    found = accepted(op)
    return "all" if len(found) == len(dtypes.ALL) else ", ".join(d.name for d in found)


def _accuracy(op: Op) -> str:
    """What is declared and held to by tests/oracle.py."""
    integers = "; integers exact" if any(d.is_integer for d in accepted(op)) else ""
    if isinstance(op, Elementwise) and op.complex_ulp is not None:
        integers += f"; complex within {op.complex_ulp:g} ulp of the larger part"
    if isinstance(op, Elementwise) and not op.exact:
        return f"within {op.bound(float32):g} ulp in f32 and {op.bound(float64):g} ulp in f64{integers}"
    if isinstance(op, Elementwise):
        return f"exact: the correctly rounded result{integers if op.complex_ulp is not None else ''}"
    if isinstance(op, Contraction) or (isinstance(op, (Reduction, Expansion)) and not op.exact):
        return f"floats within n * eps of the result on absolute values, for n terms{integers}"
    if isinstance(op, Cumulative) and not op.exact:
        return "each step within a few ulp"
    if isinstance(op, (Reduction, Cumulative, Expansion)):
        return "exact: the bits of the definition"
    return ""


def _facts(op: Op) -> list[str]:
    facts = [f"kind {op.kind}"]
    if op.attributes:
        facts.append("attributes " + ", ".join(f"`{name}`" for name in op.attributes))
    for label, text in (("dtypes", dtype_names(op)), ("accuracy", _accuracy(op))):
        facts += [f"{label}: {text}"] if text else []
    facts += ["may fail"] if op.fallible else []
    facts += ["has effects, ordered by tokens"] if op.effect else []
    return facts


def _derivative(op: Op) -> list[str]:
    """The lines under "Derivative"."""
    if isinstance(op, (Composite, Fused)) or op.kind == "control":
        return ["Derivative: that of the graphs it holds."]
    shown = example(op)
    if shown is None:
        return ["Derivative: none."] if getattr(op, "vjp", None) is None else ["Derivative: the user's."]
    try:
        lines = derivative(op, shown.types, shown.attrs)
    except NoDerivativeError:
        return ["Derivative: none; asking for it is an error."]
    if not lines:
        return ["Derivative: zero."]
    head = "Derivative:"
    if not isinstance(op, Elementwise):
        operand_names, _ = names(len(shown.types))
        given = [f"{name}: {type_}" for name, type_ in zip(operand_names, shown.types, strict=True)]
        given += [f"{name} = {attribute(value)}" for name, value in shown.attrs.items()]
        head = f"Derivative, for `{'`, `'.join(given)}`:"
    return [head, "", "```text", *lines, "```"]


# -- special values -----------------------------------------------------------------------------------------------------------

_FLOATS = (-np.inf, -2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0, np.inf, np.nan)
_FEW_FLOATS = (-np.inf, -1.0, -0.0, 0.0, 1.0, np.inf, np.nan)
_INTEGERS = (-128, -3, -1, 0, 1, 3, 127)
_BOOLS = (False, True)
_COMPLEX = (1 + 2j, complex(-0.0, -0.0), complex(np.inf, -1.0), complex(-np.inf, np.nan))
_WORDS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1)


def _spelled(x: Any) -> str:
    if isinstance(x, np.bool_):
        return str(bool(x))
    if isinstance(x, np.complexfloating):
        return f"{_spelled(x.real)} + {_spelled(x.imag)}i"
    if not isinstance(x, np.floating):
        return str(x)
    return "nan" if np.isnan(x) else f"{float(x):.5g}"


def _values(op: Elementwise, *operands: Array) -> Array:
    """As compiled code computes them; where complex numbers are involved, by definition."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        operand_dtypes = [dtypes.from_numpy(x.dtype) for x in operands]
        if any(d.is_complex for d in (*operand_dtypes, op.types(*operand_dtypes))):
            return op.evaluate(operands, {})[0]
        return np.broadcast_to(op.scalar(NumpyScalar(), *operands), operands[0].shape)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def _special(op: Elementwise, dtype: DType, points: Sequence[Any]) -> list[str]:
    x = np.array(points, dtype.numpy)
    shown = [f"`{_spelled(v)}`" for v in x]
    if op.arity == 1:
        return _table([f"x: {dtype.name}", *shown], [["y", *(_spelled(y) for y in _values(op, x))]])
    bits = _bits_first(op)
    first = x if bits is None else np.array(_WORDS, bits.numpy)
    grid = [_values(op, np.full(x.shape, value), x) for value in first]
    heads = [f"`{_spelled(v)}`" for v in first]
    rows = [[head, *(_spelled(z) for z in row)] for head, row in zip(heads, grid, strict=True)]
    return _table([f"x{'' if bits is None else f': {bits.name}'} \\ y: {dtype.name}", *shown], rows)


def _bits_first(op: Op) -> DType | None:
    """The dtype of the first of two operands where it is bits and the second is not."""
    shown = example(op)
    first, second = (t.dtype for t in shown.types if isinstance(t, TensorType)) if shown else (None, None)
    return None if first is second else first


def _special_values(op: Op) -> list[str]:
    """Tables of results at special operands, for ops of one or two operands without attributes."""
    if not isinstance(op, Elementwise) or op.arity > 2 or op.attributes:
        return []
    lines: list[str] = []
    floats = _FLOATS if op.arity == 1 else _FEW_FLOATS
    known = accepted(op)
    choices = ((float64, floats), (int8, _INTEGERS), (bool_, _BOOLS), (uint32, _WORDS), (complex128, _COMPLEX))
    for dtype, points in choices:
        if dtype in known and (not lines or dtype is int8):
            lines += _special(op, dtype, points)
    return lines


# -- pages --------------------------------------------------------------------------------------------------------------------


def _op_section(op: Op) -> list[str]:
    lines = [f"### {op.name}", "", " ".join(op.doc.split()), "", "; ".join(_facts(op)) + ".", ""]
    lines += [*_derivative(op), ""]
    return lines + _special_values(op)


_HEAD = "Written by `python -m graphc.tools.reference`; tests/tools/test_conformance.py wants it current."


def ops_page() -> str:
    """The text of docs/reference/ops.md."""
    ops = list(registry.all_ops())
    kinds = sorted({op.kind for op in ops})
    lines = [
        "# Ops",
        "",
        _HEAD,
        "",
        "Operands are `x`; or `x` and `y`; or `x0`, `x1`, ...; results `y` (`z` of two operands). `dy` is the cotangent of",
        "`y`: the derivative of the final scalar by it. Derivatives are the ops' rules, run on names. Tables hold the results",
        "at special operands as compiled code gives them; empty operands give empty results unless the text says otherwise. A",
        "bound in ulp is in units of the last place of the exact result, where it is finite; 16-bit floats are computed in f32",
        "and rounded once more.",
        "",
    ]
    for kind in kinds:
        here = sorted((op for op in ops if op.kind == kind), key=lambda op: op.name)
        lines += [f"- {kind}: " + ", ".join(f"[{op.name}](#{op.name})" for op in here)]
    lines.append("")
    for kind in kinds:
        lines += [f"## Kind: {kind}", ""]
        kind_type = type(next(op for op in ops if op.kind == kind))
        lines += [_first(kind_type), ""]
        for op in sorted((op for op in ops if op.kind == kind), key=lambda op: op.name):
            lines += _op_section(op)
    return "\n".join(lines).rstrip() + "\n"


def _first(thing: object) -> str:
    """The first paragraph of a docstring, as one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def namespace_page() -> str:
    """The text of docs/reference/namespace.md."""
    found = sections()
    lines = ["# Namespace", "", _HEAD, ""]
    lines += [f"- [{section.title}](#{section.anchor}): {len(section.entries)}" for section in found] + [""]
    for section in found:
        lines += [f'## <a id="{section.anchor}"></a>{section.title}', "", section.doc, ""]
        rows = []
        for entry in section.entries:
            made = [f"[{name}](ops.md#{name})" for name in entry.ops]
            made += [f"[{name}](#{name})" for name in entry.functions]
            rows.append([f'<a id="{entry.name}"></a>`{entry.signature}`', entry.line, ", ".join(made)])
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
        lines += _table(["name", "what it does", "made of"], escaped)
    return "\n".join(lines).rstrip() + "\n"


def pages() -> dict[str, str]:
    """The texts of the pages by file name."""
    return {"ops.md": ops_page(), "namespace.md": namespace_page()}


def main(arguments: Sequence[str]) -> None:
    """Write the pages into a folder, docs/reference of the current one if none is named."""
    folder = Path(arguments[0] if arguments else "docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
