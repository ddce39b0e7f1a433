"""Native calls: the type whose instances are called by emitted code, and the entries that the code reads. Layer 4, runtime.

The emitted code (`graphc.codegen.callpath`) reads fields of Python's and NumPy's objects at fixed offsets and calls
their C functions through a table. `layout_is_known` looks at real objects first; where it finds anything else (another
interpreter, a build without the interpreter lock, a debug build) there are no native calls, and all goes through Python.

An entry belongs to one function and one signature. All memory that its words point to is owned by the `NativeEntry`; it must
live as long as it is in a chain or busy.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import CellType
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.artifact import ENTRY, Artifact
from graphc.callrecord import (
    API,
    Argument,
    ArgumentKind,
    Entry,
    Field,
    FieldKind,
    Guard,
    GuardKind,
    Item,
    ItemKind,
    Object,
    Output,
)
from graphc.runtime.buffers import pointer
from graphc.runtime.image import MappedImage

__all__ = ["NativeEntry", "layout_is_known", "link_chain", "native_type", "slot_offset", "word_at"]

Array = npt.NDArray[Any]

#: The exported function that is the type's `tp_call`.
_CALL = "graphc_call"
# Numbers of slots and flags of CPython's stable ABI (typeslots.h, object.h).
_TP_CALL = 50
_BASE_TYPE = 1 << 10
# Places in NumPy's table of C functions, fixed since NumPy 1.0; NumPy 2 has ABI version 0x02000000.
_NUMPY_ABI, _NUMPY_TYPE, _NUMPY_SCALAR, _NUMPY_NEW = 0, 2, 60, 94
_ABI_2 = 0x02000000
# Flags of an array: C-contiguous and aligned.
_READABLE = 0x0001 | 0x0100

_PYTHON_FUNCTIONS = {
    API.CONTEXT_GET: "PyContextVar_Get",
    API.INCREF: "Py_IncRef",
    API.DECREF: "Py_DecRef",
    API.TUPLE_NEW: "PyTuple_New",
    API.METHOD_NEW: "PyMethod_New",
    API.CALL: "PyObject_Call",
    API.CALL_NO_ARGUMENTS: "PyObject_CallNoArgs",
    API.CALL_ONE_ARGUMENT: "PyObject_CallOneArg",
    API.DICT_GET: "PyDict_GetItem",
    API.SAVE_THREAD: "PyEval_SaveThread",
    API.RESTORE_THREAD: "PyEval_RestoreThread",
    API.LONG_FROM: "PyLong_FromSsize_t",
    API.LONG_AS: "PyLong_AsSsize_t",
    API.TYPE_ALLOC: "PyType_GenericAlloc",
}


# -- what is at which offset ---------------------------------------------------------------------------------------------


def word_at(thing: object, offset: int) -> int:
    """The 64-bit word at a byte offset in an object."""
    return ctypes.c_size_t.from_address(id(thing) + offset).value


def _read_int(thing: object, offset: int) -> int:
    return ctypes.c_int32.from_address(id(thing) + offset).value


@cache
def layout_is_known() -> bool:
    """Whether objects of this Python and NumPy are laid out as emitted code reads them, by looking at some."""
    if platform.python_implementation() != "CPython" or sys.maxsize != 2**63 - 1 or sys.byteorder != "little":
        return False
    if hasattr(sys, "gettotalrefcount") or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    if object.__basicsize__ != Object.HEAD or np.lib.NumpyVersion(np.__version__) < "2.0.0":
        return False
    if not all(hasattr(ctypes.pythonapi, name) for name in _PYTHON_FUNCTIONS.values()):
        return False  # Python 3.10 exports no PyObject_CallOneArg.
    return _arrays_are_known() and _objects_are_known() and _numpy_table() is not None


def _arrays_are_known() -> bool:
    whole = np.arange(24.0).reshape(4, 6)
    probes = [whole, whole[2:], whole[1:, ::2], whole.T, np.zeros(3, np.int8), np.array(1.0), np.empty((0, 2), bool)]
    return all(map(_array_is_known, probes))


def _array_is_known(array: Array) -> bool:
    shape = word_at(array, Object.ARRAY_SHAPE)
    extents = [ctypes.c_ssize_t.from_address(shape + 8 * axis).value for axis in range(array.ndim)]
    known = (
        word_at(array, Object.TYPE) == id(np.ndarray)
        and word_at(array, Object.ARRAY_DATA) == array.__array_interface__["data"][0]
        and _read_int(array, Object.ARRAY_RANK) == array.ndim
        and tuple(extents) == array.shape
        and word_at(array, Object.ARRAY_DTYPE) == id(array.dtype)
        and _read_int(array, Object.ARRAY_FLAGS) == array.flags.num
        and word_at(array, Object.ARRAY_WEAK) == 0
    )
    reference = weakref.ref(array)
    return known and word_at(array, Object.ARRAY_WEAK) == id(reference)


def _objects_are_known() -> bool:
    items, number, cell, thing = (object(), object(), object()), 1234.5, CellType(object()), object()
    alone = [thing]
    counted = _read_int(thing, Object.COUNT)
    alone.append(thing)
    bits = struct.unpack("<Q", struct.pack("<d", number))[0]
    return (
        word_at(items, Object.SIZE) == 3
        and [word_at(d, Object.DICT_SIZE) for d in ({}, {"a": 1, "b": 2})] == [0, 2]
        and [word_at(items, Object.TUPLE_ITEMS + 8 * i) for i in range(3)] == [id(x) for x in items]
        and word_at(number, Object.FLOAT_VALUE) == bits
        and word_at(cell, Object.CELL_CONTENT) == id(cell.cell_contents)
        and _read_int(thing, Object.COUNT) == counted + 1
    )


@cache
def _numpy_table() -> Any:
    """NumPy's table of C functions, or None if it is not NumPy 2's."""
    capsule = getattr(sys.modules.get("numpy._core._multiarray_umath"), "_ARRAY_API", None)
    if capsule is None:
        return None
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    table = ctypes.cast(get(capsule, None), ctypes.POINTER(ctypes.c_void_p))
    version = ctypes.PYFUNCTYPE(ctypes.c_uint)(table[_NUMPY_ABI] or 0)
    return table if version() == _ABI_2 and table[_NUMPY_TYPE] == id(np.ndarray) else None


def slot_offset(type_: type, name: str) -> int | None:
    """The byte offset of an instance's `__slots__` entry, read from the type's member descriptor; None if it is not one."""
    descriptor = type_.__dict__.get(name)
    if type(descriptor).__name__ != "member_descriptor":
        return None
    # A member descriptor: header, type, name, qualified name, then the PyMemberDef: name, kind, offset.
    definition = word_at(descriptor, 40)
    return ctypes.c_ssize_t.from_address(definition + 16).value


# -- the type -------------------------------------------------------------------------------------------------------------


class _Slot(ctypes.Structure):
    _fields_ = (("number", ctypes.c_int), ("value", ctypes.c_void_p))


class _Spec(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("size", ctypes.c_int),
        ("item_size", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    )


#: Types, and what their code needs, live as long as the process.
_KEPT: list[Any] = []


def native_type(artifact: Artifact, slow: Callable[..., Any], trace: Any, grad_mode: Any) -> type:
    """A type whose instances are called by emitted code. Layout must be known.

    Parameters
    ----------
    artifact
        The native call.
    slow
        A plain Python function: `slow(self, *args, **kwargs)` does the whole call.
    trace, grad_mode
        Context variables with defaults: a call is native only while the first holds None, and an entry only while the
        second holds the entry's object.
    """
    image = MappedImage.of(artifact)
    table = _numpy_table()
    words = np.zeros(API.WORDS, np.uint64)
    objects = {
        API.SLOW: slow,
        API.TRACE: trace,
        API.GRAD_MODE: grad_mode,
        API.NONE: None,
        API.FALSE: False,
        API.TRUE: True,
        API.ARRAY_TYPE: np.ndarray,
        API.FLOAT_TYPE: float,
    }
    for word, thing in objects.items():
        words[word] = id(thing)
    for word, name in _PYTHON_FUNCTIONS.items():
        words[word] = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0
    words[API.ARRAY_NEW], words[API.SCALAR_NEW] = table[_NUMPY_NEW], table[_NUMPY_SCALAR]
    load = image.function(ENTRY, (ctypes.c_void_p,) * 3, release_gil=False)
    load(pointer(words), None, None)
    slots = (_Slot * 2)(_Slot(_TP_CALL, image.place(_CALL)), _Slot(0, None))
    spec = _Spec(b"graphc.runtime.callpath.NativeCall", Object.HEAD + 8, 0, _BASE_TYPE, slots)
    make = ctypes.pythonapi.PyType_FromSpec
    make.restype, make.argtypes = ctypes.py_object, (ctypes.POINTER(_Spec),)
    made: type = make(ctypes.byref(spec))
    _KEPT.extend((image, load, slots, spec, objects, made))
    return made


# -- entries --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class NativeEntry:
    """The words of an entry, while they are filled and after.

    `arguments`, `guards`, `outputs` and `items` are lists of rows until `finish`; `words` is the entry. `held` keeps alive
    what words point to; `token` is for the owner to tell what the entry was made for.
    """

    token: Any = None

    words: Array = field(default_factory=lambda: np.zeros(Entry.WORDS, np.uint64))
    arguments: list[Array] = field(default_factory=list)
    guards: list[Array] = field(default_factory=list)
    outputs: list[Array] = field(default_factory=list)
    items: list[Array] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    bumps: list[int] = field(default_factory=list)
    scalars: list[tuple[CellType | dict[str, Any], str, Any]] = field(default_factory=list)
    held: list[Any] = field(default_factory=list)

    @property
    def address(self) -> int:
        return pointer(self.words)

    @property
    def busy(self) -> bool:
        """Whether a call uses the entry at this moment."""
        return bool(self.words[Entry.BUSY])

    def refer(self, thing: Any) -> int:
        """The address of an object that is kept alive."""
        self.held.append(thing)
        return id(thing)

    def table(self, values: Sequence[int]) -> int:
        """The address of a table of words that is kept alive."""
        table = np.array([*values, 0], np.uint64)
        self.held.append(table)
        return pointer(table)

    def add_array(self, array: Array, slot: int, *, holder: tuple[Any, int, int, Any] | None = None) -> None:
        """An argument like this array; or, with (type, offset of its array, offset of a flag, the flag), an object that
        holds one."""
        row = np.zeros(Argument.WORDS, np.uint64)
        row[Argument.KIND] = ArgumentKind.ARRAY if holder is None else ArgumentKind.HOLDER
        row[Argument.TYPE] = self.refer(np.ndarray if holder is None else holder[0])
        row[Argument.SLOT], row[Argument.RANK], row[Argument.BYTES] = slot, array.ndim, array.nbytes
        row[Argument.DTYPE] = self.refer(array.dtype)
        row[Argument.SHAPE] = self.table(array.shape)
        row[Argument.FLAGS] = _READABLE
        if holder is not None:
            row[Argument.ARRAY_AT], row[Argument.FLAG_AT] = holder[1], holder[2]
            row[Argument.FLAG] = self.refer(holder[3])
        self.arguments.append(row)

    def add_float(self, slot: int) -> None:
        """A Python float as argument."""
        row = np.zeros(Argument.WORDS, np.uint64)
        row[Argument.KIND], row[Argument.TYPE], row[Argument.SLOT] = ArgumentKind.FLOAT, id(float), slot
        self.arguments.append(row)

    def add_static(self, thing: Any) -> None:
        """An argument that must be this very object."""
        row = np.zeros(Argument.WORDS, np.uint64)
        row[Argument.KIND], row[Argument.TYPE] = ArgumentKind.STATIC, self.refer(thing)
        self.arguments.append(row)

    def guard(self, kind: GuardKind, place: int, value: int, key: int = 0) -> None:
        """Add a guard."""
        row = np.zeros(Guard.WORDS, np.uint64)
        row[Guard.KIND], row[Guard.PLACE], row[Guard.KEY], row[Guard.VALUE] = kind, place, key, value
        self.guards.append(row)

    def guard_scalar(self, place: CellType | dict[str, Any], name: str, value: Any) -> None:
        """A cell, or a dict's entry `name`, still holds this very object."""
        self.scalars.append((place, name, value))
        if isinstance(place, CellType):
            self.guard(GuardKind.SAME, self.refer(place) + Object.CELL_CONTENT, self.refer(value))
        else:
            self.guard(GuardKind.IN_DICT, self.refer(place), self.refer(value), self.refer(name))

    def scalars_hold(self) -> bool:
        """Whether cells and dicts still hold the objects of `guard_scalar`."""
        return all(_content(place, name) is value for place, name, value in self.scalars)

    def add_output(self, like: Array, slot: int, allocate: Callable[[], Array] | None, *, recycle: bool) -> int:
        """An output that is a fresh array like this one; its number."""
        row = np.zeros(Output.WORDS, np.uint64)
        row[Output.SLOT], row[Output.RANK], row[Output.FLAGS] = slot, like.ndim, like.flags.num
        row[Output.DTYPE], row[Output.SHAPE] = self.refer(like.dtype), self.table(like.shape)
        if allocate is not None:
            row[Output.ALLOCATE] = self.refer(allocate)
        if recycle:
            ring = np.empty(2, object)  # NumPy lets go of what emitted code leaves in it
            self.held.append(ring)
            row[Output.RING] = pointer(ring)
        self.outputs.append(row)
        return len(self.outputs) - 1

    def template(self, example: Any, array: Array, fresh: tuple[type, ...]) -> int | None:
        """The address of a template for objects like `example`, which was made for `array` by its own class.

        Its slots hold the array, instances of the classes `fresh` (each object has its own), or None, bools and small integers;
        None if there is anything else.
        """
        fields: list[int] = []
        for name in _slots(type(example)):
            offset, value = slot_offset(type(example), name), getattr(example, name, _UNSET)
            if value is _UNSET:
                continue
            row = _field(self, value, array, fresh)
            if offset is None or row is None or word_at(example, offset) != id(value):
                return None
            fields += [row[0], offset, row[1]]
        if type(example).__basicsize__ != _slots_end(type(example)):
            return None
        return self.table([self.refer(type(example)), len(fields) // Field.WORDS, self.table(fields)])

    def add_item(self, kind: ItemKind, value: int, extra: int = 0) -> None:
        """Add a leaf of the result."""
        row = np.zeros(Item.WORDS, np.uint64)
        row[Item.KIND], row[Item.VALUE], row[Item.EXTRA] = kind, value, extra
        self.items.append(row)

    def finish(self) -> None:
        """Point the entry's words at the rows that were added."""
        tables = (
            (Entry.ARGUMENTS, Entry.ARGUMENT_COUNT, self.arguments),
            (Entry.GUARDS, Entry.GUARD_COUNT, self.guards),
            (Entry.OUTPUTS, Entry.OUTPUT_COUNT, self.outputs),
            (Entry.ITEMS, Entry.ITEM_COUNT, self.items),
        )
        for place, count, rows in tables:
            self.words[place] = self.table([int(word) for row in rows for word in row])
            self.words[count] = len(rows)
        self.words[Entry.SPANS] = self.table([word for span in self.spans for word in span])
        self.words[Entry.SPAN_COUNT] = len(self.spans)
        self.words[Entry.BUMPS] = self.table(self.bumps)
        self.words[Entry.BUMP_COUNT] = len(self.bumps)


_UNSET = object()


def _slots(type_: type) -> list[str]:
    return [name for name in type_.__dict__ if slot_offset(type_, name) is not None]


def _slots_end(type_: type) -> int:
    """The size of an instance that has its slots and a list of weak references, if it has one, and nothing else. From
    Python 3.12 on that list stands before the object (its offset is negative), where the allocator puts it."""
    return object.__basicsize__ + 8 * (len(_slots(type_)) + (type_.__weakrefoffset__ > 0))


def _field(entry: NativeEntry, value: Any, array: Array, fresh: tuple[type, ...]) -> tuple[int, int] | None:
    """Kind and value of a slot's record."""
    if value is array:
        return FieldKind.ARRAY, 0
    if value is None or type(value) is bool or (type(value) is int and 0 <= value < 256):
        return FieldKind.OBJECT, entry.refer(value)
    inner = entry.template(value, array, fresh) if type(value) in fresh else None
    return None if inner is None else (FieldKind.INSTANCE, inner)


def _content(place: CellType | dict[str, Any], name: str) -> Any:
    """What a cell holds, or a dict under a name; None too if there is nothing."""
    if isinstance(place, dict):
        return place.get(name)
    try:
        return place.cell_contents
    except ValueError:
        return None


def link_chain(owner: Any, entries: Sequence[NativeEntry]) -> None:
    """Make these the entries of an instance of a native type, in this order."""
    following = 0
    for entry in reversed(entries):
        entry.words[Entry.NEXT] = following
        following = entry.address
    ctypes.c_size_t.from_address(id(owner) + Object.HEAD).value = following
