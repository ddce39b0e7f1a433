"""The conformance table: what is there of the functions that graphc is to have. Layer 7.

`python -m graphc.tools.conformance` prints docs/conformance.md. A row is a name; it is done if the namespace (or, for a row
with a dot, the object before the dot) has it. What is missing has a reason in `MISSING`; a test compares the page with what
this module prints, and wants a reason for every name that is missing and for no other.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType

from graphc.errors import MissingDependencyError
from graphc.frontend.methods import ARRAY_FUNCTIONS, METHODS, UFUNC_FUNCTIONS
from graphc.ir import registry
from graphc.ir.op import Composite, Fused, Op
from graphc.nn import functional
from graphc.tools.reference import dtype_names

__all__ = ["MISSING", "SECTIONS", "has", "page"]

#: Functions of the Python array API standard 2024.12 by its sections, then what else users of NumPy expect.
SECTIONS: Mapping[str, str] = {
    "Array API: creation": """arange asarray empty empty_like eye from_dlpack full full_like linspace meshgrid ones ones_like
        tril triu zeros zeros_like""",
    "Array API: data types": "astype broadcast_arrays broadcast_to can_cast finfo iinfo isdtype result_type",
    "Array API: dtypes": """bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128""",
    "Array API: constants": "e inf nan newaxis pi",
    "Array API: elementwise": """abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_invert
        bitwise_or bitwise_right_shift bitwise_xor ceil clip conj copysign cos cosh divide equal exp expm1 floor floor_divide
        greater greater_equal hypot imag isfinite isinf isnan less less_equal log log1p log2 log10 logaddexp logical_and
        logical_not logical_or logical_xor maximum minimum multiply negative nextafter not_equal positive pow real reciprocal
        remainder round sign signbit sin sinh square sqrt subtract tan tanh trunc""",
    "Array API: indexing and searching": """take take_along_axis argmax argmin count_nonzero nonzero searchsorted where""",
    "Array API: linear algebra": "matmul matrix_transpose tensordot vecdot",
    "Array API: manipulation": """concat expand_dims flip moveaxis permute_dims repeat reshape roll squeeze stack tile
        unstack""",
    "Array API: sets": "unique_all unique_counts unique_inverse unique_values",
    "Array API: sorting": "argsort sort",
    "Array API: statistics": "cumulative_prod cumulative_sum max mean min prod std sum var",
    "Array API: utilities": "all any diff",
    "Array API: inspection": "__array_namespace_info__ __array_api_version__",
    "Array API: linalg extension": """linalg.cholesky linalg.cross linalg.det linalg.diagonal linalg.eigh linalg.eigvalsh
        linalg.inv linalg.matmul linalg.matrix_norm linalg.matrix_power linalg.matrix_rank linalg.matrix_transpose
        linalg.outer linalg.pinv linalg.qr linalg.slogdet linalg.solve linalg.svd linalg.svdvals linalg.tensordot linalg.trace
        linalg.vecdot linalg.vector_norm""",
    "Array API: fft extension": """fft.fft fft.ifft fft.fftn fft.ifftn fft.rfft fft.irfft fft.rfftn fft.irfftn fft.hfft
        fft.ihfft fft.fftfreq fft.rfftfreq fft.fftshift fft.ifftshift""",
    "Dtypes beyond the standard": "float16 bfloat16",
    "Elementwise": """exp2 logaddexp2 cbrt fmod fmax fmin float_power heaviside deg2rad rad2deg fabs fix sinc nan_to_num isclose
        allclose isposinf isneginf angle erf erfc erfinv lgamma digamma polygamma sigmoid softplus relu gelu""",
    "Movement": """pad split array_split swapaxes diagonal diag diagflat trace rot90 rollaxis atleast_1d atleast_2d atleast_3d
        column_stack gradient vander""",
    "Indexing": """put_along_axis one_hot topk partition argpartition unique flatnonzero argwhere isin Tensor.__getitem__
        Tensor.__setitem__ Tensor.at""",
    "Reductions": """logsumexp softmax log_softmax median quantile percentile average ptp trapezoid histogram bincount nansum
        nanprod nanmax nanmin nanmean nanvar nanstd nanargmax nanargmin""",
    "Cumulative": """cumsum cumprod cumulative_max cumulative_min cumulative_logsumexp linear_recurrence""",
    "Contractions": """dot vdot inner outer kron einsum linalg.multi_dot linalg.norm linalg.lstsq conv reduce_window
        nn.functional.conv1d nn.functional.conv2d nn.functional.conv3d nn.functional.conv_transpose1d
        nn.functional.conv_transpose2d nn.functional.conv_transpose3d nn.functional.max_pool2d nn.functional.avg_pool2d
        nn.functional.interpolate""",
    "Random": """random.uniform random.normal random.integers random.bernoulli random.exponential random.gamma
        random.categorical random.permutation random.choice random.truncated_normal""",
    "Extension": "custom_op host_call debug.print",
}

#: Why a name is missing.
MISSING: Mapping[str, str] = {}


def has(name: str) -> bool:
    """Whether the namespace has a (dotted) name."""
    # Modules never import the root package; whoever asks for the page has loaded it.
    found: object = sys.modules["graphc"]
    if name.startswith("nn.functional."):
        return hasattr(functional, name.rpartition(".")[2])
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except MissingDependencyError:
            return True
        except AttributeError:
            return False
    return not isinstance(found, ModuleType)


def _state(name: str) -> str:
    if has(name):
        return "done"
    return f"no: {MISSING.get(name, '?')}"


def _names() -> list[str]:
    lines: list[str] = []
    for title, names in SECTIONS.items():
        listed = names.split()
        done = [n for n in listed if has(n)]
        lines += [f"### {title}: {len(done)} of {len(listed)}", ""]
        if done:
            lines += ["done: " + ", ".join(f"`{n}`" for n in done), ""]
        rest = [n for n in listed if not has(n)]
        if rest:
            lines += ["| missing | why |", "|---|---|", *(f"| `{n}` | {_state(n)[4:]} |" for n in rest), ""]
    return lines


# -- ops --------------------------------------------------------------------------------------------------------------------


def _derivative(op: Op) -> str:
    if isinstance(op, (Composite, Fused)):
        return "its body's"
    rules = (getattr(op, "partials", None), getattr(op, "vjp", None))
    return "yes" if any(rule is not None for rule in rules) else "zero or none"


def _ops() -> list[str]:
    lines = ["| op | kind | dtypes | derivative |", "|---|---|---|---|"]
    for op in sorted(registry.all_ops(), key=lambda op: (op.kind, op.name)):
        lines.append(f"| `{op.name}` | {op.kind} | {dtype_names(op)} | {_derivative(op)} |")
    return [*lines, ""]


def _spelled(function: object) -> str:
    module = getattr(function, "__module__", None) or "numpy"
    return f"{module}.{getattr(function, '__name__', function)}"


def page() -> str:
    """The text of docs/conformance.md."""
    names = [n for text in SECTIONS.values() for n in text.split()]
    done = sum(map(has, names))
    functions = sorted({_spelled(f) for f in ARRAY_FUNCTIONS})
    ufuncs = sorted({f"numpy.{u.__name__}" for u in UFUNC_FUNCTIONS})
    lines = [
        "# Conformance",
        "",
        "Written by `python -m graphc.tools.conformance`; tests/tools/test_conformance.py wants it current. Each op is run",
        "compiled against its NumPy definition by tests/test_registry_compiled.py, each NumPy function against NumPy,",
        "dynamically and compiled, by tests/frontend/test_functions.py.",
        "",
        f"## Functions: {done} of {len(names)}",
        "",
        *_names(),
        f"## NumPy functions that dispatch: {len(functions) + len(ufuncs)}",
        "",
        "Ufuncs: " + ", ".join(f"`{name}`" for name in ufuncs) + ".",
        "",
        "Functions: " + ", ".join(f"`{name}`" for name in functions) + ".",
        "",
        "Methods: " + ", ".join(f"`{name}`" for name in sorted(METHODS)) + ".",
        "",
        f"## Ops of the IR: {len(list(registry.all_ops()))}",
        "",
        *_ops(),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
