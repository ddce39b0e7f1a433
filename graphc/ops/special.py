"""Leaves and markers: graph inputs, constants, iota, barriers. Layer 2."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.dtypes import DType
from graphc.errors import DTypeError, InterpreterError, ShapeError
from graphc.ir.graph import Attribute, Literal
from graphc.ir.op import Builder, Expansion, Special, type_error
from graphc.ir.registry import register
from graphc.ir.types import Shape, TensorType, Type

__all__ = ["barrier", "constant", "input_", "iota", "stop_gradient"]


def _input_numpy(**_: Attribute) -> Any:
    raise InterpreterError("an input has no value of its own; the evaluator supplies it")


input_ = register(
    Special(
        name="input",
        doc="The graph's input number `index`, of type `type`.",
        attributes=("index", "type"),
        rule=lambda index, type: (type,),
        numpy=_input_numpy,
    )
)

constant = register(
    Special(
        name="constant",
        doc="The array `value`; identified by dtype, shape and bits.",
        attributes=("value",),
        rule=lambda value: (_literal_type(value),),
        numpy=lambda value: value.array,
    )
)


def _literal_type(value: Attribute) -> TensorType:
    if not isinstance(value, Literal):
        raise DTypeError(f"constant: value must be a Literal, not {type(value).__name__}")
    return value.type


def _iota_rule(shape: Shape, axis: int, dtype: DType) -> tuple[Type, ...]:
    if not 0 <= axis < len(shape):
        raise ShapeError(f"iota: axis {axis} is not an axis of shape {shape}")
    if not (dtype.is_integer or dtype.is_float):
        raise DTypeError("iota: dtype must be a number's")
    return (TensorType(dtype, shape),)


def _iota_numpy(shape: tuple[int, ...], axis: int, dtype: DType) -> np.ndarray[Any, Any]:
    line = np.arange(shape[axis], dtype=np.int64).astype(dtype.numpy)
    return np.broadcast_to(line.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)


iota = register(
    Special(
        name="iota",
        doc="y[i] = i[axis], converted from int64 to `dtype`.",
        attributes=("shape", "axis", "dtype"),
        rule=_iota_rule,
        numpy=_iota_numpy,
        scalar=lambda s, index, shape, axis, dtype: s.convert(index[axis], dtype),
    )
)


def _barrier_rule(*types: Type, instance: int) -> tuple[Type, ...]:
    if not types or not all(isinstance(t, TensorType) for t in types):
        raise ShapeError(type_error("barrier", "takes a tensor, and tensors to wait for", types))
    return types[:1]


def _barrier_vjp(b: Builder, operands: Any, results: Any, cotangents: Any, instance: int) -> list[Any]:
    return [cotangents[0], *(None for _ in operands[1:])]


barrier = register(
    Special(
        name="barrier",
        doc="""y = x, never merged with a barrier of another `instance` and not looked through: keeps recomputation
        apart. Further operands are waited for: code that uses y comes after them.""",
        attributes=("instance",),
        rule=_barrier_rule,
        numpy=lambda x, *waits, instance: x,
        vjp=_barrier_vjp,
        linear="together",
        shift=lambda size, **attrs: attrs,
        view=True,
    )
)


def _stop_gradient_rule(*types: Type) -> tuple[Type, ...]:
    if len(types) != 1:
        raise ShapeError(type_error("stop_gradient", "takes one operand", types))
    return types


def _stop_gradient_vjp(b: Builder, operands: Any, results: Any, cotangents: Any) -> list[Any]:
    return [None]


stop_gradient = register(
    Expansion(
        name="stop_gradient",
        doc="y = x, bit for bit; a constant to differentiation, whatever x depends on.",
        rule=_stop_gradient_rule,
        numpy=lambda x: x,
        vjp=_stop_gradient_vjp,
        expand=lambda b, x: x,
        shift=lambda size: {},
        exact=True,
        narrow=True,
    )
)
