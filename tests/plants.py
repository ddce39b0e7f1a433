"""Faults to plant: wrong source lines that some test must notice. `tests/test_planted_faults.py` plants them.

A plant replaces `old`, which must be in the file exactly once, by `new`; `tests` are the ones that must fail then, chosen
to run in seconds. Sources move: a plant whose text is gone fails loudly and is to be brought up to date.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PLANTS", "Plant"]


@dataclass(frozen=True)
class Plant:
    """A fault: what is wrong (also its id), where, and which tests notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_REGISTRY = "tests/ops/test_registry.py::"
_COMPILED = "tests/test_registry_compiled.py::test_compiled_against_numpy"
_INDEX = "tests/test_registry_compiled.py::test_an_index_out_of_range_is_an_error"
_RANDOM = "tests/test_random_graphs.py::test_all_evaluations_agree"
_FUNCTIONS = "tests/frontend/test_compiled_functions.py::"

_OPS = (
    Plant(
        "the derivative of tanh is 1 - y",
        "graphc/ops/transcendental.py",
        "lambda b, y, x: (b.multiply(b.subtract(1.0, y), b.add(y, 1.0)),),",
        "lambda b, y, x: (b.subtract(1.0, y),),",
        (_REGISTRY + "test_vjp_against_finite_differences[tanh]",),
    ),
    Plant(
        "the identity of max is zero",
        "graphc/ops/reduction.py",
        "return -math.inf",
        "return 0.0",
        (_COMPILED + "[max-strict]", _REGISTRY + "test_identities_are_neutral"),
    ),
    Plant(
        "the derivative of broadcast forgets repeated axes of size 1",
        "graphc/ops/movement.py",
        "if k < lead or old[k - lead] != new)",
        "if k < lead)",
        (_REGISTRY + "test_vjp_against_finite_differences[broadcast]",),
    ),
    Plant(
        "the derivative of transpose does not invert the permutation",
        "graphc/ops/movement.py",
        "[b.transpose(ct, perm=_inverse(perm))]",
        "[b.transpose(ct, perm=perm)]",
        (_REGISTRY + "test_vjp_against_finite_differences[transpose]",),
    ),
    Plant(
        "the index map of transpose is the inverse one",
        "graphc/ops/movement.py",
        "tuple(index[k] for k in _inverse(perm))",
        "tuple(index[k] for k in perm)",
        (_COMPILED + "[transpose-strict]", _REGISTRY + "test_index_map[transpose]"),
    ),
    Plant(
        "slice begins one element late",
        "graphc/ops/movement.py",
        "tuple(first + i * stride for i, first, stride",
        "tuple(first + (i + 1) * stride for i, first, stride",
        (_REGISTRY + "test_index_map[slice]",),
    ),
    Plant(
        "pad repeats the operand's corner instead of the value",
        "graphc/ops/movement.py",
        "[Source(0, inner, guards), Source(1, ())]",
        "[Source(0, inner, guards), Source(0, tuple(i * 0 for i in inner))]",
        (_REGISTRY + "test_index_map[pad]",),
    ),
    Plant(
        "maximum drops NaN of the first operand",
        "graphc/ops/arithmetic.py",
        "return s.select(s.or_(s.gt(x, y), s.ne(x, x)), x, y)",
        "return s.select(s.gt(x, y), x, y)",
        (_COMPILED + "[maximum-strict]", _REGISTRY + "test_scalar_rule[maximum]"),
    ),
    Plant(
        "one coefficient of erf has a wrong digit",
        "graphc/ops/coefficients.py",
        "-0.37612638903184104",
        "-0.37612638903194104",
        (_COMPILED + "[erf-strict]",),
    ),
    Plant(
        "unsigned integers are shifted with their sign",
        "graphc/ops/logic.py",
        "return _shift(s, x, n, s.lshr, s.const(s.dtype(x), 0))",
        "return _shift(s, x, n, s.ashr, s.const(s.dtype(x), 0))",
        (_COMPILED + "[right_shift-strict]",),
    ),
    Plant(
        "the side that select does not take gets a cotangent",
        "graphc/ops/logic.py",
        "(None, Masked(c), Masked(b.logical_not(c)))",
        "(None, Masked(c), Masked(c))",
        (_REGISTRY + "test_vjp_against_finite_differences[select]",),
    ),
    Plant(
        "a cotangent's mask is dropped",
        "graphc/reverse.py",
        "        if mask is None:\n            return value\n        known",
        "        if True:\n            return value\n        known",
        (_FUNCTIONS + "test_where_does_not_leak_nan",),
    ),
    Plant(
        "u64 indices from 2**63 on are negative",
        "graphc/ops/indexing.py",
        "if s.dtype(index) is not uint64:",
        "if True:",
        (_COMPILED + "[take-strict]", _COMPILED + "[scatter_add-strict]"),
    ),
    Plant(
        "Philox has a wrong multiplier",
        "graphc/ops/random.py",
        "0xCD9E8D57)",
        "0xCD9E8D59)",
        ("tests/ops/test_random.py",),
    ),
)

_IR_AND_PASSES = (
    Plant(
        "interning ignores attributes",
        "graphc/ir/graph.py",
        "key = (op, operands, tuple((name, attribute_key(attrs[name])) for name in sorted(attrs)))",
        "key = (op, operands, tuple(sorted(attrs)) if operands else tuple((n, attribute_key(attrs[n])) for n in attrs))",
        ("tests/ir/test_text.py::test_random_round_trip", _RANDOM + "[0-19]"),
    ),
    Plant(
        "-0.0 and 0.0 are one attribute",
        "graphc/ir/graph.py",
        'return (float, struct.pack("<d", value))',
        "return (float, value)",
        ("tests/ir/test_text.py",),
    ),
    Plant(
        "the parser reads an empty tuple as (0,)",
        "graphc/ir/parser.py",
        "        attrs[token.text] = self.attribute()",
        "        value = self.attribute()\n        attrs[token.text] = value if value != () else (0,)",
        ("tests/ir/test_text.py", _RANDOM + "[0-19]"),
    ),
    Plant(
        "constants are folded with operands the other way round",
        "passes/fold.py",
        "(result,) = node.op.evaluate(arrays, node.attrs)",
        "(result,) = node.op.evaluate(arrays[::-1], node.attrs)",
        ("tests/test_registry_compiled.py::test_folding",),
    ),
    Plant(
        "x + 0.0 --> x counts as exact",
        "passes/rules.py",
        'rule("x + (-0.0) --> x", x + -0.0, lambda x: x, where=is_real)',
        'rule("x + (-0.0) --> x", x + 0.0, lambda x: x, where=is_real)',
        ("tests/passes/test_rules.py::test_exact_rule_keeps_all_bits",),
    ),
    Plant(
        "two transposes are composed in the wrong order",
        "passes/rules.py",
        "perm=tuple(inner[axis] for axis in outer)",
        "perm=tuple(outer[axis] for axis in inner)",
        ("tests/passes/test_rules.py::test_exact_rule_keeps_all_bits",),
    ),
    Plant(
        "a slice of a concatenation takes the wrong part",
        "passes/rules.py",
        "moved = (*start[:axis], start[axis] - offset, *start[axis + 1 :])",
        "moved = (*start[:axis], start[axis], *start[axis + 1 :])",
        ("tests/passes/test_rules.py::test_exact_rule_keeps_all_bits",),
    ),
    Plant(
        "scalars that a product reads have no memory",
        "passes/fusion_trace.py",
        'self.role[node] = BOUNDARY if node.op.name == "constant" else REAL',
        'self.role[node] = LINK if node.op.name == "constant" else REAL',
        ("tests/test_registry_compiled.py::test_operands_that_are_splats[dot]",),
    ),
)

_CODEGEN = (
    Plant(
        "the mask of a reduction's tail is lost",
        "codegen/emit.py",
        "            if mask is not None:\n                new = tuple(",
        "            if mask is None:\n                new = tuple(",
        (_COMPILED + "[prod-strict]",),
    ),
    Plant(
        "the tail of a vector loop is left out",
        "codegen/emit.py",
        "if middle == end and not self._short(loop):",
        "if not self._short(loop):",
        (_COMPILED + "[negative-strict]",),
    ),
    Plant(
        "unsigned integers are compared as signed ones",
        "codegen/vectors.py",
        "{'s' if x.dtype.is_signed else 'u'}{relation}",
        "{'s' if x.dtype.is_signed else 's'}{relation}",
        (_COMPILED + "[less-strict]",),
    ),
    Plant(
        "a fold takes the low half twice: half of the lanes are lost",
        "codegen/folding.py",
        "high = tuple(half(widths[2 * lanes], x, lanes) for x in parts)",
        "high = tuple(half(widths[2 * lanes], x, 0) for x in parts)",
        (_COMPILED + "[sum-strict]",),
    ),
    Plant(
        "the strides of a product's two operands are swapped",
        "codegen/contraction.py",
        "k=tuple((self.extents[x], _of(a, x), _of(b, x)) for x in contracted)",
        "k=tuple((self.extents[x], _of(b, x), _of(a, x)) for x in contracted)",
        (_COMPILED + "[dot-strict]",),
    ),
    Plant(
        "the epilogue reads the bias by row",
        "codegen/contraction.py",
        "row, column = _of(offset, self._inner(self.row)), _of(offset, self._inner(self.column))",
        "column, row = _of(offset, self._inner(self.row)), _of(offset, self._inner(self.column))",
        ("tests/codegen/test_compile.py::test_matmul_bias_relu_and_mask_are_one_kernel",),
    ),
    Plant(
        "readers of an old value may run after it is overwritten",
        "codegen/actions.py",
        "            first |= {a for a in self.actions if old in a.reads}",
        "            first |= {a for a in self.actions if False}",
        (_FUNCTIONS + "test_swap_of_two_states", "tests/codegen/test_compile.py::test_rotation_of_three"),
    ),
    Plant(
        "range checks may come after writes",
        "codegen/actions.py",
        "else {a for a in self.actions if a.check is not None or _may_end(a)}",
        "else {a for a in self.actions if _may_end(a)}",
        ("tests/codegen/test_compile.py", _FUNCTIONS + "test_an_index_error_leaves_state_as_it_was"),
    ),
    Plant(
        "host calls may come after writes",
        "codegen/actions.py",
        "else {a for a in self.actions if a.check is not None or _may_end(a)}",
        "else {a for a in self.actions if a.check is not None}",
        ("tests/frontend/test_extension.py::test_no_state_is_written_when_a_call_raises",),
    ),
    Plant(
        "buffers share bytes when they are in use together",
        "codegen/plan.py",
        "return a.first <= b.last and b.first <= a.last",
        "return a.first > b.last or b.first > a.last",
        ("tests/codegen/test_plan.py", _RANDOM + "[0-19]"),
    ),
    Plant(
        "a lifetime ends one action early",
        "codegen/plan.py",
        "        block.last = last\n",
        "        block.last = max(block.first, last - 1)\n",
        ("tests/codegen/test_plan.py", _RANDOM + "[0-19]"),
    ),
    Plant(
        "a kernel overwrites an operand that it reads elsewhere",
        "codegen/body.py",
        "if any(r.index != axes_of(len(output.shape)) for r in found):",
        "if any(r.index is None for r in found):",
        ("tests/codegen/test_compile.py",),
    ),
    Plant(
        "take has no range check",
        "codegen/emitters.py",
        'if mode != "raise" and isinstance(size, int) and size > 0:',
        "if size != 0:",
        (_INDEX,),
    ),
    Plant(
        "products and sums are contracted without permission",
        "codegen/compiler.py",
        "contract=contract",
        "contract=True",
        ("tests/codegen/test_compile.py::test_without_contraction_results_are_bit_equal",),
    ),
)

_RUNTIME_AND_FRONTEND = (
    Plant(
        "cached code does not depend on the options",
        "graphc/frontend/build.py",
        "        repr(options.contract),\n",
        "",
        ("tests/test_build.py",),
    ),
    Plant(
        "cached code does not depend on what is written in place",
        "graphc/frontend/build.py",
        "        repr(sorted(writes.items())),\n",
        "",
        ("tests/test_build.py",),
    ),
    Plant(
        "damaged cache entries are believed",
        "graphc/runtime/cache.py",
        "def _digest(payload: bytes) -> bytes:\n    return hashlib.blake2b(payload, digest_size=_DIGEST_SIZE).digest()",
        "def _digest(payload: bytes) -> bytes:\n    return bytes(_DIGEST_SIZE)",
        ("tests/runtime/test_cache.py::test_damage_is_noticed_named_and_removed",),
    ),
    Plant(
        "overwritten saved values go unnoticed",
        "graphc/frontend/tape.py",
        "if entry is not None and entry[0].number != entry[1]:",
        "if entry is not None and entry[0].number < entry[1]:",
        ("tests/frontend/test_stale.py",),
    ),
    Plant(
        "attributes that change do not make traces stale",
        "graphc/frontend/variant.py",
        "if thing.structure_version != known:",
        "if thing.structure_version < known:",
        ("tests/nn/test_module.py::test_attributes_that_change_are_noticed",),
    ),
    Plant(
        "guards of captured scalars are not checked",
        "graphc/frontend/variant.py",
        "            if not guard.holds():\n                return False",
        "            if not guard.holds():\n                continue",
        (_FUNCTIONS + "test_captured_scalars_are_guards",),
    ),
    Plant(
        "Adam forgets to square the gradient",
        "graphc/optim/adam.py",
        'new_v = f["beta2"] * v + f["rest2"] * (g * g)',
        'new_v = f["beta2"] * v + f["rest2"] * g',
        ("tests/optim/test_optimizers.py::test_twenty_steps",),
    ),
)

PLANTS: tuple[Plant, ...] = (*_OPS, *_IR_AND_PASSES, *_CODEGEN, *_RUNTIME_AND_FRONTEND)
