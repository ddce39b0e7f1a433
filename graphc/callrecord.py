"""The records that a native call reads: what code generation and the runtime agree on. Layer 3.

A compiled function holds a chain of *entries*, one for each signature that may be called natively. An entry and all that
it points to are tables of 64-bit words, filled by the runtime (`graphc.runtime.callpath`) and read by emitted code
(`graphc.codegen.callpath`). The enumerations give the index of each word; the last member of each is its size.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "API",
    "Argument",
    "ArgumentKind",
    "Entry",
    "Field",
    "FieldKind",
    "Guard",
    "GuardKind",
    "Item",
    "ItemKind",
    "Object",
    "Output",
    "Template",
]


class Entry(IntEnum):
    """One signature of one function.

    `BUSY` is 1 while a call uses the entry's tables: another call then goes through Python. `VERSION` must be the number at
    the address `COUNTER`. `GRAD` is the object that the context variable of the gradient mode must hold. `CALLS` is the
    address of a counter of calls. `SPANS` are the (low, high) addresses that the call writes besides its outputs;
    arguments may not touch them. `BUMPS` are addresses of Python integers that a call counts up. `LOCK` and `UNLOCK` are
    callables around a call that writes state, or null. `WRAP`, if not null, makes the result of the tuple of leaves.
    """

    NEXT = 0
    BUSY = 1
    GRAD = 2
    COUNTER = 3
    VERSION = 4
    CALLS = 5
    FUNCTION = 6
    LONG = 7
    POINTERS = 8
    SIZES = 9
    ARENA = 10
    ARGUMENTS = 11
    ARGUMENT_COUNT = 12
    GUARDS = 13
    GUARD_COUNT = 14
    OUTPUTS = 15
    OUTPUT_COUNT = 16
    ITEMS = 17
    ITEM_COUNT = 18
    IS_TUPLE = 19
    SPANS = 20
    SPAN_COUNT = 21
    BUMPS = 22
    BUMP_COUNT = 23
    LOCK = 24
    UNLOCK = 25
    WRAP = 26
    WORDS = 27


class ArgumentKind(IntEnum):
    """An ndarray; an object that holds one in a slot (a Tensor); a float, read in place; an object that is compared by
    identity and is no buffer."""

    ARRAY = 0
    HOLDER = 1
    FLOAT = 2
    STATIC = 3


class Argument(IntEnum):
    """What an argument must be, and the place in the table of pointers of its data.

    `TYPE` is the exact type, for `STATIC` the object itself. Holders have their array at byte `ARRAY_AT`, and at byte `FLAG_AT`
    the object `FLAG`. All of the bits `FLAGS` must be set in the array's flags. `BYTES` is the array's size.
    """

    KIND = 0
    TYPE = 1
    SLOT = 2
    DTYPE = 3
    RANK = 4
    SHAPE = 5
    FLAGS = 6
    ARRAY_AT = 7
    FLAG_AT = 8
    FLAG = 9
    BYTES = 10
    WORDS = 11


class GuardKind(IntEnum):
    """The word at `PLACE` is `VALUE`; it is not; the dict `PLACE` has `VALUE` under `KEY`."""

    SAME = 0
    DIFFERS = 1
    IN_DICT = 2


class Guard(IntEnum):
    """A fact that must hold. `VALUE` is a word or the address of an object, which the runtime keeps alive."""

    KIND = 0
    PLACE = 1
    KEY = 2
    VALUE = 3
    WORDS = 4


class Output(IntEnum):
    """An output array: recycled if one of the two arrays at `RING` has no other owner, else made.

    An array is made by NumPy, or by the callable `ALLOCATE`. `RING` null: not recycled. `FLAGS` are those of a fresh array.
    `CURRENT` owns the array during a call.
    """

    SLOT = 0
    DTYPE = 1
    RANK = 2
    SHAPE = 3
    FLAGS = 4
    RING = 5
    ALLOCATE = 6
    CURRENT = 7
    WORDS = 8


class ItemKind(IntEnum):
    """Output array number `VALUE`; the same in a new instance by the template `EXTRA`; a NumPy scalar of the dtype
    `EXTRA` from the memory `VALUE`; argument number `VALUE`; the object `VALUE`; the same as item number `VALUE`."""

    ARRAY = 0
    WRAPPED = 1
    SCALAR = 2
    ARGUMENT = 3
    OBJECT = 4
    REPEATED = 5


class Item(IntEnum):
    """One leaf of the result."""

    KIND = 0
    VALUE = 1
    EXTRA = 2
    WORDS = 3


class Template(IntEnum):
    """How to make an instance of `TYPE`, a class with slots: what its `COUNT` slots hold."""

    TYPE = 0
    COUNT = 1
    FIELDS = 2
    WORDS = 3


class FieldKind(IntEnum):
    """The object `VALUE`; the array that the instance is for; a new instance by the template `VALUE`."""

    OBJECT = 0
    ARRAY = 1
    INSTANCE = 2


class Field(IntEnum):
    """What the slot at byte `OFFSET` holds."""

    KIND = 0
    OFFSET = 1
    VALUE = 2
    WORDS = 3


class Object(IntEnum):
    """Byte offsets in objects of CPython (with the GIL, 64 bits) and NumPy 2; the runtime checks them on real objects."""

    COUNT = 0
    TYPE = 8
    HEAD = 16
    SIZE = 16
    DICT_SIZE = 16
    FLOAT_VALUE = 16
    CELL_CONTENT = 16
    TUPLE_ITEMS = 24
    ARRAY_DATA = 16
    ARRAY_RANK = 24
    ARRAY_SHAPE = 32
    ARRAY_DTYPE = 56
    ARRAY_FLAGS = 64
    ARRAY_WEAK = 72


class API(IntEnum):
    """Objects and functions of Python and NumPy that emitted code is given when it is loaded."""

    SLOW = 0
    TRACE = 1
    GRAD_MODE = 2
    NONE = 3
    FALSE = 4
    TRUE = 5
    ARRAY_TYPE = 6
    FLOAT_TYPE = 7
    CONTEXT_GET = 8
    INCREF = 9
    DECREF = 10
    TUPLE_NEW = 11
    METHOD_NEW = 12
    CALL = 13
    CALL_NO_ARGUMENTS = 14
    CALL_ONE_ARGUMENT = 15
    DICT_GET = 16
    SAVE_THREAD = 17
    RESTORE_THREAD = 18
    ARRAY_NEW = 19
    SCALAR_NEW = 20
    LONG_FROM = 21
    LONG_AS = 22
    TYPE_ALLOC = 23
    WORDS = 24
