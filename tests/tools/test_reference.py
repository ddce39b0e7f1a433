"""The reference pages say what is so: formulas compute the derivatives, links lead somewhere, nothing is left out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from samples import smooth_samples

import graphc as gx
from graphc import dtypes
from graphc.interp import NumpyBuilder, vjp
from graphc.ir import registry
from graphc.ir.op import Elementwise, Op
from graphc.ir.types import TensorType
from graphc.tools import public
from graphc.tools.formula import derivative, names
from graphc.tools.reference import accepted, example, namespace_page, ops_page

OPS = list(registry.all_ops())
each_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)


@pytest.fixture(scope="module")
def page() -> str:
    return ops_page()


def section(page: str, name: str) -> str:
    return page.split(f"\n### {name}\n")[1].split("\n### ", maxsplit=1)[0].split("\n## ", maxsplit=1)[0]


# -- ops ----------------------------------------------------------------------------------------------------------------------


@each_op
def test_an_op_has_all_its_facts(op: Op, page: str) -> None:
    """What the page needs and an op does not declare is found here: an example, behaviour, dtypes, a bound, a derivative."""
    text = section(page, op.name)
    assert " ".join(op.doc.split()) in text
    assert "\nkind " in text and "\nDerivative" in text
    assert all(f"`{name}`" in text for name in op.attributes)
    held = op.kind in ("control", "fused", "composite", "random") or op.name in ("input", "constant", "iota")
    user = op.name in ("host_call", "pure_call", "debug_print")
    assert held or user or (example(op) is not None and accepted(op)), "give it an example in graphc/tools/reference.py"
    if isinstance(op, Elementwise):
        assert "; accuracy: " in text
        assert op.arity > 2 or op.attributes or "\n|---|" in text, "no table of special values"


@pytest.mark.parametrize(
    "op", [op for op in OPS if isinstance(op, Elementwise) and not op.exact], ids=lambda op: op.name
)
def test_an_inexact_op_states_its_bound(op: Elementwise, page: str) -> None:
    assert op.ulp is not None
    assert f"within {op.ulp[0]:g} ulp in f32 and {op.ulp[1]:g} ulp in f64" in section(page, op.name)


#: Kinds whose formulas hide no shapes (a literal stands for a tensor of the shape that the other operands have).
_RUNNABLE = ("elementwise", "contraction", "host", "reduction")
#: Ops whose derivative is an error, which the page says.
_REFUSED = ("gamma_from_bits",)
_RUN = [op for op in OPS if op.kind in _RUNNABLE and smooth_samples(op) and example(op) is not None]
_RUN = [op for op in _RUN if op.name not in _REFUSED]


@pytest.mark.parametrize("name", _REFUSED)
def test_a_derivative_that_is_an_error_says_so(name: str, page: str) -> None:
    assert "Derivative: none; asking for it is an error." in section(page, name)


@pytest.mark.parametrize("op", _RUN, ids=lambda op: op.name)
def test_the_formula_of_a_derivative_computes_it(op: Op) -> None:
    sample = next(s for s in smooth_samples(op) if all(x.size and x.dtype != np.float32 for x in s.operands))
    lines = derivative(op, sample.types, sample.attrs)
    results = op.evaluate(sample.operands, sample.attrs)
    rng = np.random.default_rng(3)
    cotangents = [rng.normal(size=y.shape).astype(y.dtype) for y in results]
    expected = vjp(op, sample.operands, results, cotangents, sample.attrs)
    operand_names, stem = names(len(sample.operands))
    scope: dict[str, Any] = {d.name: d for d in dtypes.ALL}
    scope |= {other.name: _call(other) for other in OPS}
    scope |= dict(zip(operand_names, sample.operands, strict=True))
    for k, (y, ct) in enumerate(zip(results, cotangents, strict=True)):
        name = f"{stem}{k}" if len(results) > 1 else stem
        scope |= {name: y, f"d{name}": ct}
    exec("\n".join(lines), scope)
    for name, ct in zip(operand_names, expected, strict=True):
        assert (f"d{name}" in scope) == (ct is not None)
        if ct is not None:
            np.testing.assert_allclose(np.broadcast_to(scope[f"d{name}"], ct.shape), ct, rtol=1e-12, atol=1e-12)


def _call(op: Op) -> Callable[..., Any]:
    """The op on arrays and literals: literals have the shape of the others, and are floats beside bools."""

    def call(*operands: Any, **attrs: Any) -> Any:
        shape = np.broadcast_shapes(*map(np.shape, operands)) if op.kind == "elementwise" else None
        arrays = [np.asarray(x) if shape is None else np.array(np.broadcast_to(x, shape)) for x in operands]
        found = op.evaluate(arrays, attrs)
        return found[0] if len(found) == 1 else found

    return call


def test_operators_in_formulas_bind_as_in_python() -> None:
    b = NumpyBuilder()
    assert b.subtract(np.array(5.0), b.subtract(np.array(3.0), np.array(1.0))) == 3
    f64 = TensorType(dtypes.float64, (2,))
    assert derivative(registry.get("atanh"), [f64], {}) == ["dx = dy * reciprocal((1.0 - x) * (x + 1.0))"]
    assert derivative(registry.get("acos"), [f64], {}) == ["dx = dy * -reciprocal(sqrt((1.0 - x) * (x + 1.0)))"]


def test_special_values_of_the_table(page: str) -> None:
    assert "| y | nan | nan | -inf | -0.54931 | -0 | 0 | 0.54931 | inf | nan | nan | nan |" in section(page, "atanh")
    rows = [line for line in section(page, "add").splitlines() if line.startswith("| `-0`")]
    assert rows == ["| `-0` | -inf | -1 | -0 | 0 | 1 | inf | nan |"]
    assert "| `127` | -1 | 124 | 126 | 127 | -128 | -126 | -2 |" in section(page, "add")


# -- names --------------------------------------------------------------------------------------------------------------------


def test_links_lead_somewhere(page: str) -> None:
    text = namespace_page()
    anchors = set(re.findall(r'<a id="([^"]+)"></a>', text))
    ops = set(re.findall(r"^### (\w+)$", page, flags=re.MULTILINE))
    assert ops == {op.name for op in OPS}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
    assert set(re.findall(r"\]\(ops\.md#([^)]+)\)", text)) <= ops
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= ops


def test_every_public_name_is_listed_with_a_line() -> None:
    entries = {entry.name: entry for section in public.sections() for entry in section.entries}
    own = {
        n for n, thing in vars(gx).items() if callable(thing) and getattr(thing, "__module__", "").startswith("graphc.")
    }
    assert {n for n in own if not n.startswith("_")} <= set(entries)
    assert {"linalg.svd", "fft.fftshift", "random.uniform", "nn.functional.relu", "Tensor.sum", "optim.Adam"} <= set(
        entries
    )
    assert not [name for name, entry in entries.items() if not entry.line]


def test_what_functions_are_made_of() -> None:
    entries = {entry.name: entry for section in public.sections() for entry in section.entries}
    assert entries["exp"].ops == ("exp",)
    assert entries["logical_and"].ops == ("bitwise_and",)
    assert entries["linalg.svd"].ops == ("svd",)
    assert "where" in entries["heaviside"].functions
    assert entries["Tensor.sum"].functions == ("sum",)
    assert {"random_bits", "normal_from_bits", "scale_shift"} <= set(entries["random.normal"].ops)
    assert entries["sum"].signature == "sum(x, /, *, axis=None, dtype=None, keepdims=False)"
