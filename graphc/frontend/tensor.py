"""`Tensor`: the array of both modes, and `apply`, the one door through which ops run. Layer 5.

In dynamic mode a Tensor holds a NumPy array and every op runs at once, through the op's NumPy definition. While a
function is traced, ops on Tensors become nodes of a graph instead (`graphc.frontend.trace`); a Tensor made outside and
used inside is state: it is read live, and writing to it inside updates it in place.

Operators and methods are installed on the class by `graphc.frontend.methods`; this module knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import (
    DTypeError,
    GradientError,
    GraphcError,
    LiteralError,
    MatrixError,
    ShapeError,
    StateError,
    StructureError,
    TracerConversionError,
    message,
)
from graphc.frontend import context
from graphc.frontend.source import user_location
from graphc.frontend.tape import Leaf, Reference, TapeNode
from graphc.ir.graph import Attribute
from graphc.ir.op import Op
from graphc.ir.types import TensorType

__all__ = [
    "Tensor",
    "Version",
    "apply",
    "check_complex_to",
    "checked_dtype",
    "default_complex_dtype",
    "default_dtype",
    "dtype_hint",
    "native_array",
    "observe",
    "rank_zero",
    "record",
    "set_default_dtype",
]

Array = np.ndarray[Any, Any]


class Version:
    """Counts the writes to one block of memory; shared by a tensor and the views of it."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class _Defaults:
    """Process-wide settings of the frontend."""

    __slots__ = ("dtype",)

    def __init__(self) -> None:
        self.dtype = np.dtype(np.float32)


_DEFAULTS = _Defaults()


def default_dtype() -> np.dtype[Any]:
    """The dtype that Python floats become (float32 unless set)."""
    return _DEFAULTS.dtype


def default_complex_dtype() -> np.dtype[Any]:
    """The dtype that Python complex numbers become: complex64, or complex128 where floats become float64."""
    return np.result_type(_DEFAULTS.dtype, np.complex64) if _DEFAULTS.dtype.kind == "f" else np.dtype(np.complex64)


def set_default_dtype(dtype: Any) -> None:
    """Set the dtype that Python floats become: float32 or float64."""
    resolved = checked_dtype(dtype)
    if not resolved.is_float:
        raise DTypeError(
            message(
                f"the default dtype must be a float's, not {resolved.numpy}",
                location=user_location(),
                hint="Use float32 or float64.",
            )
        )
    _DEFAULTS.dtype = resolved.numpy


def checked_dtype(dtype: Any, data: Array | None = None) -> dtypes.DType:
    """The dtype of graphc's that `dtype` (anything that NumPy takes for one) stands for.

    Raises
    ------
    DTypeError
        If there is none; with the data's type and the user's place.
    """
    try:
        return dtypes.from_numpy(dtype)
    except TypeError as error:
        what = str(error) if isinstance(error, DTypeError) else f"{dtype!r} is not a dtype"
        operands = [] if data is None else [("data", f"{data.dtype}{list(data.shape)}")]
        raise DTypeError(message(what, operands=operands, location=user_location(), hint=dtype_hint(dtype))) from None


def dtype_hint(dtype: Any) -> str:
    """What to do about a dtype that graphc has not."""
    kind = np.dtype(dtype).kind if isinstance(dtype, (type, np.dtype)) else ""
    if kind in ("O", "S", "U", "V"):
        return "Pass arrays of numbers or bools only; for records, one array for each field."
    return "Use one of these, for example .astype(np.float32)."


def native_array(data: Any, dtype: Any = None, *, copy: bool = False) -> Array:
    """`data` as an array of a dtype that graphc has, in native byte order.

    Python floats (also in lists) take the default dtype, Python complex numbers that with such parts; arrays keep theirs.

    Raises
    ------
    DTypeError
        For dtypes that graphc has not, and for complex data where a real dtype is asked for.
    """
    if isinstance(data, Tensor):
        data = data.numpy()
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
    else:
        array = _from_numbers(data, dtype)
        if dtype is None and array.dtype == np.float64:
            dtype = _DEFAULTS.dtype
        elif dtype is None and array.dtype == np.complex128:
            dtype = default_complex_dtype()
    if dtype is None or array.dtype.kind not in "biufc":
        found = checked_dtype(array.dtype, array)
    if dtype is not None:
        found = checked_dtype(dtype)
        if array.dtype.kind == "c":
            check_complex_to(found, f"{array.dtype}{list(array.shape)}")
    wanted = found.numpy
    return np.array(array, dtype=wanted, copy=True) if copy else np.asarray(array, dtype=wanted)


def check_complex_to(dtype: dtypes.DType, shown: object) -> None:
    """Raise if complex numbers, `shown` in the message, cannot become elements of `dtype`: of real numbers' dtypes they would
    lose their imaginary part."""
    if dtype.is_complex or dtype.is_bool:
        return
    raise DTypeError(
        message(
            f"complex numbers cannot be converted to {dtype.label}",
            operands=[("x", shown)],
            location=user_location(),
            hint="Say what is meant: x.real, x.imag or abs(x).",
        )
    )


def _only_integers(data: Any) -> bool:
    return all(isinstance(number, (int, np.integer)) for number in np.asarray(data, dtype=object).ravel())


def _from_numbers(data: Any, dtype: Any) -> Array:
    try:
        array = np.asarray(data)
        if dtype is not None and checked_dtype(dtype).is_integer and (array.dtype.kind in "iu" or _only_integers(data)):
            # Refuses integers that do not fit; of integers on both sides of 2**63 NumPy alone would make floats.
            array = np.asarray(data, dtype=checked_dtype(dtype).numpy)
        return array
    except OverflowError as error:
        raise LiteralError(
            message(
                str(error),
                operands=[("data", str(data))],
                location=user_location(),
                hint="Use a wider dtype, for example np.int64.",
            )
        ) from None
    except ValueError as error:
        raise ShapeError(
            message(
                "nested lists must have the same lengths in each level",
                operands=[("NumPy says", str(error).partition(". ")[2] or error)],
                location=user_location(),
                hint="Pad the rows to one length, or pass one array for each.",
            )
        ) from None


class Tensor:
    """A dense array that can be differentiated, captured by compiled functions, and updated in place by them.

    Made by `gx.tensor`, `gx.asarray` and the creation functions. Behaves like a NumPy array in expressions.

    >>> import graphc as gx
    >>> w = gx.tensor([1.0, 2.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> w.grad
    Tensor([2., 4.], dtype=float32)
    """

    __slots__ = ("__weakref__", "_array", "_base", "_grad", "_reference", "_requires_grad", "_version")

    def __init__(self, array: Array, *, requires_grad: bool = False) -> None:
        self._array = array
        self._requires_grad = False
        self._reference: Reference | None = None
        self._grad: Tensor | None = None
        self._version = Version()
        self._base: Tensor | None = None
        if requires_grad:
            self.requires_grad = True

    # -- metadata ---------------------------------------------------------------------------------------------------

    @property
    def type(self) -> TensorType:
        """dtype and shape as the IR's type."""
        array = self._array
        return TensorType(dtypes.from_numpy(array.dtype), array.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The elements' dtype, NumPy's."""
        return self._array.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize

    @property
    def device(self) -> str:
        """Always `"cpu"`."""
        return "cpu"

    def __len__(self) -> int:
        if not self.shape:
            raise rank_zero("len()", self)
        return self.shape[0]

    __hash__ = object.__hash__

    # -- leaving the world of tensors ---------------------------------------------------------------------------------

    def concrete(self, asked: str) -> Array:
        """The array behind the tensor; while tracing, an error that says who `asked`."""
        trace = context.trace.get()
        if trace is not None:
            if trace.rewrites:
                trace.wants_rewriting = True
                raise context.RewriteNeeded
            raise TracerConversionError(
                message(
                    f"{asked} asks for the value of a captured tensor while a function is being traced",
                    operands=[("tensor", self.type)],
                    location=user_location(),
                    hint="The value would be frozen into the compiled code. Compute with graphc or NumPy functions instead, "
                    "or read the value outside of the compiled function.",
                )
            )
        return self._array

    def _single(self, asked: str, error: Callable[[str], GraphcError]) -> Array:
        """The array of one element behind the tensor."""
        array = self.concrete(asked)
        if array.size != 1:
            raise error(
                message(
                    f"{asked} needs a tensor of one element",
                    operands=[("tensor", self.type)],
                    location=user_location(),
                    hint="Choose an element (x[0]), or reduce it: any(), all(), sum().",
                )
            )
        return array

    def numpy(self) -> Array:
        """The values as a NumPy array that shares the tensor's memory."""
        return self.concrete("numpy()")

    def item(self) -> Any:
        """The only element as a Python number."""
        return self._single("item()", ShapeError).item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self.concrete("tolist()").tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self.concrete("np.asarray()")
        if copy is False and dtype is not None and np.dtype(dtype) != array.dtype:
            raise ValueError("a copy is needed to convert the dtype")
        return np.array(array, dtype=dtype, copy=copy or None)

    def __bool__(self) -> bool:
        return bool(self._single("bool()", ShapeError))

    def __float__(self) -> float:
        return float(self._single("float()", StructureError).item())

    def __int__(self) -> int:
        return int(self._single("int()", StructureError).item())

    def __complex__(self) -> complex:
        return complex(self._single("complex()", StructureError).item())

    def __index__(self) -> int:
        array = self.concrete("an index")
        if array.ndim or array.dtype.kind not in "iu":
            raise DTypeError(
                message(
                    "only an integer tensor of rank 0 can be an index, a size or a count",
                    operands=[("tensor", self.type)],
                    location=user_location(),
                    hint="Convert it with int(x).",
                )
            )
        return int(array)

    def __format__(self, spec: str) -> str:
        if spec and not self.shape:
            return format(self.item(), spec)
        return repr(self)

    def __repr__(self) -> str:
        text = np.array2string(self._array, separator=", ", prefix="Tensor(")
        grad = ", requires_grad=True" if self._requires_grad else ""
        shape = f", shape={self.shape}" if not self.size and self.ndim != 1 else ""
        return f"Tensor({text}{shape}, dtype={self.dtype}{grad})"

    # -- gradients ------------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded for differentiation."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and not self.type.dtype.is_inexact:
            raise GradientError(
                message(
                    "only floating-point and complex tensors can require gradients",
                    operands=[("tensor", self.type)],
                    location=user_location(),
                    hint="Make it of floats, or convert it with .astype(np.float32).",
                )
            )
        if not value and self._reference is not None and not isinstance(self._reference, Leaf):
            raise GradientError(
                message(
                    "requires_grad is turned off on the result of recorded operations",
                    operands=[("tensor", self.type)],
                    location=user_location(),
                    hint="Use .detach(), or compute it under gx.no_grad().",
                )
            )
        self._requires_grad = bool(value)
        if not value:
            self._reference = None

    def requires_grad_(self, value: bool = True) -> Tensor:
        """Set `requires_grad` and return the tensor."""
        self.requires_grad = value
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether the tensor is not the result of recorded operations."""
        return self._reference is None or isinstance(self._reference, Leaf)

    @property
    def reference(self) -> Reference | None:
        """Where gradients flow to: None when the tensor does not require any."""
        trace = context.trace.get()
        if trace is not None:
            return trace.reference_of(self)
        return self.own_reference()

    def own_reference(self) -> Reference | None:
        """`reference` without regard to a trace."""
        if self._reference is None and self._requires_grad:
            self._reference = Leaf(self)
        return self._reference

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient, or None. While tracing, it is state like the tensor itself."""
        trace = context.trace.get()
        return self._grad if trace is None else trace.read_grad(self)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if isinstance(value, np.ndarray):
            value = Tensor(native_array(value))
        if value is not None and not isinstance(value, Tensor):
            raise StructureError(
                message(
                    f"a gradient is a Tensor or None, not {value!r}",
                    operands=[("tensor", self.type)],
                    location=user_location(),
                    hint="Set None, or use optimizer.zero_grad().",
                )
            )
        if value is not None and (value.shape != self.shape or value.dtype != self.dtype):
            raise ShapeError(
                message(
                    "a gradient must have the type of its tensor",
                    operands=[("tensor", self.type), ("gradient", value.type)],
                    location=user_location(),
                    hint="Reshape it, or convert it with .astype.",
                )
            )
        trace = context.trace.get()
        if trace is None:
            self._grad = value
        else:
            trace.write_grad(self, value)

    # -- writing --------------------------------------------------------------------------------------------------------

    def assign(self, value: Tensor) -> Tensor:
        """Overwrite all elements in place with those of `value` (same shape and dtype); returns the tensor.

        Raises
        ------
        GradientError
            If the tensor is a leaf that requires gradients and recording is on: use `no_grad`.
        StateError
            If the memory is read-only, or a view of a tensor whose gradient is being recorded.
        ShapeError, DTypeError
            If the value has another type.
        """
        self.check_leaf()
        if not isinstance(value, Tensor):
            value = _lifted(value)
        if value.shape != self.shape or value.dtype != self.dtype:
            raise (DTypeError if value.shape == self.shape else ShapeError)(
                message(
                    "assign() needs a value of the tensor's own shape and dtype",
                    operands=[("tensor", self.type), ("value", value.type)],
                    location=user_location(),
                    hint="Use x[...] = value for NumPy's broadcasting and conversion.",
                )
            )
        trace = context.trace.get()
        if trace is not None:
            trace.write(self, value)
            return self
        recorded = context.grad_enabled.get() and (self._requires_grad or value._requires_grad)
        if recorded and self._base is not None:
            self._base.check_leaf()
            raise StateError(
                message(
                    "a view is written in place while gradients are recorded",
                    operands=[("view", self.type), ("of", self._base.type)],
                    location=user_location(),
                    hint="Build the new tensor with gx.where or gx.concat instead.",
                )
            )
        if not self._array.flags.writeable:
            raise StateError(
                message(
                    "the tensor's memory is read-only",
                    operands=[("tensor", self.type)],
                    location=user_location(),
                    hint="Copy it: gx.tensor copies, gx.asarray and broadcasts share memory.",
                )
            )
        np.copyto(self._array, value._array, casting="no")
        self._version.number += 1
        if recorded:
            self._reference = value.reference
            self._requires_grad = value._requires_grad
        return self

    def check_leaf(self) -> None:
        """Raise if a write to this tensor would lose its place as a leaf of the tape."""
        if self._requires_grad and self.is_leaf and context.grad_enabled.get():
            raise GradientError(
                message(
                    "a leaf tensor that requires gradients is written in place",
                    operands=[("tensor", self.type)],
                    location=user_location(),
                    hint="Put the write into `with gx.no_grad():`.",
                )
            )

    def detach(self) -> Tensor:
        """The same memory without the tape."""
        trace = context.trace.get()
        if trace is not None:
            return trace.detach(self)
        out = Tensor(self._array)
        out._version = self._version
        out._base = self if self._base is None else self._base
        return out


def _lifted(value: Any) -> Tensor:
    trace = context.trace.get()
    array = native_array(value)
    return Tensor(array) if trace is None else trace.constant(array)


def rank_zero(what: str, tensor: Tensor) -> StructureError:
    """The error for what a tensor of rank 0 cannot do."""
    return StructureError(
        message(
            f"{what} needs a tensor with axes, and this one has rank 0",
            operands=[("tensor", tensor.type)],
            location=user_location(),
            hint="A reduction without axis= gives rank 0; x.reshape(1) makes one element of it.",
        )
    )


#: Called with (op, operand arrays, result arrays) after each op that dynamic mode runs.
_OBSERVERS: list[Callable[[Op, Sequence[Array], Sequence[Array]], None]] = []


def observe(op: Op, operands: Sequence[Array], results: Sequence[Array]) -> None:
    """Tell the observers of dynamic mode that an op ran."""
    for observer in _OBSERVERS:
        observer(op, operands, results)


def record(
    op: Op,
    attrs: Mapping[str, Attribute],
    operands: Sequence[Tensor],
    results: Sequence[Tensor],
    payloads: tuple[tuple[Any, ...], tuple[Any, ...]],
    versions: tuple[tuple[Version, int] | None, ...] = (),
) -> None:
    """Put an application on the tape if an operand requires a gradient and a result can have one."""
    if not context.grad_enabled.get():
        return
    parents = tuple(t.reference for t in operands)
    if all(p is None for p in parents) or not any(t.type.dtype.is_inexact for t in results):
        return
    types = (tuple(t.type for t in operands), tuple(t.type for t in results))
    node = TapeNode(op, attrs, parents, payloads, types, versions, user_location(2))
    for index, result in enumerate(results):
        if result.type.dtype.is_inexact:
            result._reference = (node, index)
            result._requires_grad = True


def _check_complex(op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Attribute]) -> None:
    """Ask the op's type rule, which dynamic mode does not do otherwise."""
    try:
        op.infer(tuple(t.type for t in operands), attrs)
    except DTypeError:
        raise DTypeError(
            message(
                f"{op.name} is not defined for complex numbers",
                operands=[(f"operand {i}", t.type) for i, t in enumerate(operands)],
                location=user_location(),
                hint="Complex numbers have no order; x.real, x.imag and abs(x) are real.",
            )
        ) from None


def apply(op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Attribute] | None = None) -> tuple[Tensor, ...]:
    """Apply an op to tensors of strict types (equal dtypes and shapes where the op wants them).

    Dynamic mode runs the op's NumPy definition now; while tracing, a node is added to the graph.

    Raises
    ------
    DTypeError
        If an operand is complex, and the op is not defined for complex numbers.
    """
    attrs = {} if attrs is None else attrs
    if any(t.dtype.kind == "c" for t in operands):
        _check_complex(op, operands, attrs)
    trace = context.trace.get()
    if trace is not None:
        return trace.apply(op, operands, attrs)
    arrays = tuple(t._array for t in operands)
    try:
        found = op.evaluate(arrays, attrs)
    except MatrixError as error:
        raise error.at(user_location()) from error.__cause__
    if _OBSERVERS:
        observe(op, arrays, found)
    results = tuple(Tensor(array) for array in found)
    if op.kind == "movement" and len(operands) == 1 and np.may_share_memory(found[0], arrays[0]):
        origin = operands[0]
        results[0]._version = origin._version
        results[0]._base = origin if origin._base is None else origin._base
    if any(t._requires_grad for t in operands):
        versions = tuple((t._version, t._version.number) for t in (*operands, *results))
        record(op, attrs, operands, results, (arrays, found), versions)
    return results
