"""The native call: the code behind `f(x)` for every compiled function. Layer 4, codegen.

    ptr @graphc_call(ptr %self, ptr %tuple, ptr %keywords)      the slot `tp_call` of the function's type
    i64 @graphc_entry(ptr %buffers, ptr %sizes, ptr %arena)     takes the table of Python's and NumPy's functions, once

One piece of code for all functions, driven by the records of `graphc.callrecord`: it looks for an entry whose argument
types and guards hold, fills the table of pointers, gets arrays for outputs, calls the function's own entry point and wraps the
results. Whatever it does not expect goes to the Python method, which does the whole call anew; so nothing may have been
written or counted by then. It runs under the interpreter lock, which it releases around long kernels only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
    Template,
)
from graphc.codegen import llvm
from graphc.codegen.link import link
from graphc.codegen.text import Function
from graphc.target import Target

__all__ = ["CALL", "callpath_artifact", "callpath_text"]

#: The exported function that is the slot `tp_call`.
CALL = "graphc_call"


def callpath_artifact(target: Target) -> Artifact:
    """The native call as an artifact without buffers."""
    text = callpath_text() + llvm.attributes(target)
    image = link(llvm.emit_object(text, target, passes=1))
    return Artifact(image=image, isa=target.isa, buffers=(), versions=(("llvm", llvm.version()),))


def callpath_text() -> str:
    """The module's LLVM text, without attributes."""
    functions = [_load(), _argument(), _guard(), _matches(), _recycled(), _output(), _outputs(), _drop()]
    functions += [_item(), _instance(), _results(), _slow(), _run(), _call()]
    table = f"@api = internal global [{API.WORDS} x i64] zeroinitializer, align 8"
    return "\n\n".join([table, *functions]) + "\n"


# -- a little vocabulary ------------------------------------------------------------------------------------------------


def _at(f: Function, base: str, offset: int, type_: str = "i64") -> str:
    """Load from a byte offset."""
    place = f.emit(f"getelementptr i8, ptr {base}, i64 {offset}")
    return f.emit(f"load {type_}, ptr {place}, align 4")


def _word(f: Function, record: str, index: int, type_: str = "i64") -> str:
    """A word of a record."""
    return _at(f, record, 8 * index, type_)


def _set(f: Function, record: str, index: int, value: str, type_: str = "i64") -> None:
    place = f.emit(f"getelementptr i8, ptr {record}, i64 {8 * index}")
    f.do(f"store {type_} {value}, ptr {place}, align 8")


def _api(f: Function, which: API) -> str:
    return _word(f, "@api", which, "ptr")


def _invoke(f: Function, which: API, result: str, arguments: Sequence[str]) -> str:
    """Call one of Python's functions."""
    call = f"call {result} {_api(f, which)}({', '.join(arguments)})"
    if result != "void":
        return f.emit(call)
    f.do(call)
    return ""


def _require(f: Function, condition: str, otherwise: str) -> None:
    """Go on if the condition holds."""
    held = f.label("held")
    f.branch_if(condition, held, otherwise)
    f.start(held)


def _same(f: Function, x: str, y: str, otherwise: str, type_: str = "ptr") -> None:
    _require(f, f.emit(f"icmp eq {type_} {x}, {y}"), otherwise)


@contextmanager
def _each(f: Function, records: str, count: str, words: int) -> Iterator[tuple[str, str]]:
    """A loop over records; gives the record and its number."""
    header = f.loop_header("each")
    number = f.phi("i64", "0")
    body, done = f.label("body"), f.label("done")
    f.branch_if(f.emit(f"icmp slt i64 {number.name}, {count}"), body, done)
    f.start(body)
    offset = f.emit(f"mul i64 {number.name}, {8 * words}")
    yield f.emit(f"getelementptr i8, ptr {records}, i64 {offset}"), number.name
    number.add(f.emit(f"add i64 {number.name}, 1"), f.block)
    f.branch(header)
    f.start(done)


def _switch(f: Function, kind: str, kinds: Sequence[int]) -> list[str]:
    """Branch by kind; the labels of the blocks in the order of `kinds`, the last one for all others too."""
    labels = [f.label("case") for _ in kinds]
    table = " ".join(f"i64 {int(k)}, label %{label}" for k, label in zip(kinds, labels, strict=True))
    f.do(f"switch i64 {kind}, label %{labels[-1]} [ {table} ]")
    return labels


# -- checks -------------------------------------------------------------------------------------------------------------


def _load() -> str:
    """The artifact's entry point: `buffers` is the table of `API`."""
    f = Function("i64", f"@{ENTRY}", ["ptr %buffers", "ptr %sizes", "ptr %arena"], linkage="dso_local")
    with _each(f, "%buffers", str(int(API.WORDS)), 1) as (source, number):
        target = f.emit(f"getelementptr i64, ptr @api, i64 {number}")
        f.do(f"store i64 {f.emit(f'load i64, ptr {source}, align 8')}, ptr {target}, align 8")
    return f.finish("ret i64 0")


def _argument() -> str:
    """Whether an argument is what its record says; its data pointer goes to the table."""
    f = Function("i1", "@argument", ["ptr %record", "ptr %x", "ptr %chosen"])
    kind = _word(f, "%record", Argument.KIND)
    type_ = _word(f, "%record", Argument.TYPE, "ptr")
    kinds = [ArgumentKind.FLOAT, ArgumentKind.HOLDER, ArgumentKind.ARRAY, ArgumentKind.STATIC]
    floating, holder, array, static = _switch(f, kind, kinds)
    miss, store, check = f.label("miss"), f.label("store"), f.label("check")
    f.start(static)
    f.do(f"ret i1 {f.emit(f'icmp eq ptr %x, {type_}')}")
    f.start(floating)
    _same(f, _at(f, "%x", Object.TYPE, "ptr"), type_, miss)
    inside = f.emit(f"getelementptr i8, ptr %x, i64 {int(Object.FLOAT_VALUE)}")
    from_float = f.block
    f.branch(store)
    f.start(holder)
    _same(f, _at(f, "%x", Object.TYPE, "ptr"), type_, miss)
    flag_at = _word(f, "%record", Argument.FLAG_AT)
    flag = f.emit(f"load ptr, ptr {f.emit(f'getelementptr i8, ptr %x, i64 {flag_at}')}, align 8")
    _same(f, flag, _word(f, "%record", Argument.FLAG, "ptr"), miss)
    array_at = _word(f, "%record", Argument.ARRAY_AT)
    held = f.emit(f"load ptr, ptr {f.emit(f'getelementptr i8, ptr %x, i64 {array_at}')}, align 8")
    _require(f, f.emit(f"icmp ne ptr {held}, null"), miss)
    _same(f, _at(f, held, Object.TYPE, "ptr"), _api(f, API.ARRAY_TYPE), miss)
    from_holder = f.block
    f.branch(check)
    f.start(array)
    _same(f, _at(f, "%x", Object.TYPE, "ptr"), type_, miss)
    from_array = f.block
    f.branch(check)
    f.start(check)
    a = f.emit(f"phi ptr [ {held}, %{from_holder} ], [ %x, %{from_array} ]")
    _same(f, _at(f, a, Object.ARRAY_DTYPE, "ptr"), _word(f, "%record", Argument.DTYPE, "ptr"), miss)
    _check_shape(f, a, "%record", Argument.RANK, Argument.SHAPE, miss)
    wanted = f.emit(f"trunc i64 {_word(f, '%record', Argument.FLAGS)} to i32")
    flags = f.emit(f"and i32 {_at(f, a, Object.ARRAY_FLAGS, 'i32')}, {wanted}")
    _same(f, flags, wanted, miss, "i32")
    data = _at(f, a, Object.ARRAY_DATA, "ptr")
    _check_spans(f, data, miss)
    from_check = f.block
    f.branch(store)
    f.start(store)
    pointer = f.emit(f"phi ptr [ {inside}, %{from_float} ], [ {data}, %{from_check} ]")
    slot = f.emit(
        f"getelementptr ptr, ptr {_word(f, '%chosen', Entry.POINTERS, 'ptr')}, i64 {_word(f, '%record', Argument.SLOT)}"
    )
    f.do(f"store ptr {pointer}, ptr {slot}, align 8")
    f.do("ret i1 true")
    f.start(miss)
    return f.finish("ret i1 false")


def _check_shape(f: Function, array: str, record: str, rank_at: int, shape_at: int, miss: str) -> None:
    rank = _word(f, record, rank_at)
    _same(f, f.emit(f"sext i32 {_at(f, array, Object.ARRAY_RANK, 'i32')} to i64"), rank, miss, "i64")
    wanted, shape = _word(f, record, shape_at, "ptr"), _at(f, array, Object.ARRAY_SHAPE, "ptr")
    with _each(f, wanted, rank, 1) as (extent, number):
        have = f.emit(f"load i64, ptr {f.emit(f'getelementptr i64, ptr {shape}, i64 {number}')}, align 8")
        _same(f, have, f.emit(f"load i64, ptr {extent}, align 8"), miss, "i64")


def _check_spans(f: Function, data: str, miss: str) -> None:
    """The array's bytes lie outside of all that the call writes."""
    start = f.emit(f"ptrtoint ptr {data} to i64")
    end = f.emit(f"add i64 {start}, {_word(f, '%record', Argument.BYTES)}")
    count = _word(f, "%chosen", Entry.SPAN_COUNT)
    with _each(f, _word(f, "%chosen", Entry.SPANS, "ptr"), count, 2) as (span, _):
        below = f.emit(f"icmp ule i64 {end}, {_word(f, span, 0)}")
        above = f.emit(f"icmp uge i64 {start}, {_word(f, span, 1)}")
        _require(f, f.emit(f"or i1 {below}, {above}"), miss)


def _guard() -> str:
    """Whether a guard holds."""
    f = Function("i1", "@guard", ["ptr %record"])
    place, value = _word(f, "%record", Guard.PLACE, "ptr"), _word(f, "%record", Guard.VALUE)
    kinds = [GuardKind.IN_DICT, GuardKind.DIFFERS, GuardKind.SAME]
    in_dict, differs, same = _switch(f, _word(f, "%record", Guard.KIND), kinds)
    f.start(same)
    f.do(f"ret i1 {f.emit(f'icmp eq i64 {_at(f, place, 0)}, {value}')}")
    f.start(differs)
    f.do(f"ret i1 {f.emit(f'icmp ne i64 {_at(f, place, 0)}, {value}')}")
    f.start(in_dict)
    key = _word(f, "%record", Guard.KEY, "ptr")
    found = f.emit(f"ptrtoint ptr {_invoke(f, API.DICT_GET, 'ptr', [f'ptr {place}', f'ptr {key}'])} to i64")
    return f.finish(f"ret i1 {f.emit(f'icmp eq i64 {found}, {value}')}")


def _matches() -> str:
    """Whether an entry is the one for these arguments now."""
    f = Function("i1", "@matches", ["ptr %chosen", "ptr %items", "i64 %count", "ptr %grad"])
    miss = f.label("miss")
    _same(f, _word(f, "%chosen", Entry.ARGUMENT_COUNT), "%count", miss, "i64")
    _same(f, _word(f, "%chosen", Entry.BUSY), "0", miss, "i64")
    _same(f, _word(f, "%chosen", Entry.GRAD, "ptr"), "%grad", miss)
    version = _at(f, _word(f, "%chosen", Entry.COUNTER, "ptr"), 0)
    _same(f, version, _word(f, "%chosen", Entry.VERSION), miss, "i64")
    with _each(f, _word(f, "%chosen", Entry.ARGUMENTS, "ptr"), "%count", Argument.WORDS) as (record, number):
        x = f.emit(f"load ptr, ptr {f.emit(f'getelementptr ptr, ptr %items, i64 {number}')}, align 8")
        _require(f, f.emit(f"call i1 @argument(ptr {record}, ptr {x}, ptr %chosen)"), miss)
    guards = _word(f, "%chosen", Entry.GUARDS, "ptr")
    with _each(f, guards, _word(f, "%chosen", Entry.GUARD_COUNT), Guard.WORDS) as (record, _):
        _require(f, f.emit(f"call i1 @guard(ptr {record})"), miss)
    f.do("ret i1 true")
    f.start(miss)
    return f.finish("ret i1 false")


# -- outputs ------------------------------------------------------------------------------------------------------------


def _recycled() -> str:
    """The array at `%place` if nobody else has it and it is still what its output wants, with one more reference."""
    f = Function("ptr", "@recycled", ["ptr %record", "ptr %place"])
    miss = f.label("miss")
    a = f.emit("load ptr, ptr %place, align 8")
    _require(f, f.emit(f"icmp ne ptr {a}, null"), miss)
    _same(f, _at(f, a, Object.COUNT, "i32"), "1", miss, "i32")
    _same(f, _at(f, a, Object.TYPE, "ptr"), _api(f, API.ARRAY_TYPE), miss)
    _same(f, _at(f, a, Object.ARRAY_WEAK, "ptr"), "null", miss)
    _same(f, _at(f, a, Object.ARRAY_DTYPE, "ptr"), _word(f, "%record", Output.DTYPE, "ptr"), miss)
    flags = f.emit(f"trunc i64 {_word(f, '%record', Output.FLAGS)} to i32")
    _same(f, _at(f, a, Object.ARRAY_FLAGS, "i32"), flags, miss, "i32")
    _check_shape(f, a, "%record", Output.RANK, Output.SHAPE, miss)
    _invoke(f, API.INCREF, "void", [f"ptr {a}"])
    f.do(f"ret ptr {a}")
    f.start(miss)
    return f.finish("ret ptr null")


def _output() -> str:
    """An array for an output, owned by the caller; null with an exception set if there is no memory."""
    f = Function("ptr", "@output", ["ptr %record"])
    fresh, first, second, keep, done = (f.label(x) for x in ("fresh", "first", "second", "keep", "done"))
    ring = _word(f, "%record", Output.RING, "ptr")
    f.branch_if(f.emit(f"icmp eq ptr {ring}, null"), fresh, first)
    f.start(first)
    a = f.emit(f"call ptr @recycled(ptr %record, ptr {ring})")
    found_a, found_b = f.label("found"), f.label("found")
    f.branch_if(f.emit(f"icmp eq ptr {a}, null"), second, found_a)
    f.start(found_a)
    f.do(f"ret ptr {a}")
    f.start(second)
    b = f.emit(f"call ptr @recycled(ptr %record, ptr {f.emit(f'getelementptr i8, ptr {ring}, i64 8')})")
    f.branch_if(f.emit(f"icmp eq ptr {b}, null"), fresh, found_b)
    f.start(found_b)
    f.do(f"ret ptr {b}")
    f.start(fresh)
    allocate = _word(f, "%record", Output.ALLOCATE, "ptr")
    by_numpy, by_callable, made = f.label("by_numpy"), f.label("by_callable"), f.label("made")
    f.branch_if(f.emit(f"icmp eq ptr {allocate}, null"), by_numpy, by_callable)
    f.start(by_numpy)
    dtype = _word(f, "%record", Output.DTYPE, "ptr")
    _invoke(f, API.INCREF, "void", [f"ptr {dtype}"])
    rank = f.emit(f"trunc i64 {_word(f, '%record', Output.RANK)} to i32")
    new = _invoke(
        f,
        API.ARRAY_NEW,
        "ptr",
        [
            *(f"ptr {_api(f, API.ARRAY_TYPE)}", f"ptr {dtype}", f"i32 {rank}"),
            *(f"ptr {_word(f, '%record', Output.SHAPE, 'ptr')}", "ptr null", "ptr null", "i32 0", "ptr null"),
        ],
    )
    f.branch(made)
    f.start(by_callable)
    called = _invoke(f, API.CALL_NO_ARGUMENTS, "ptr", [f"ptr {allocate}"])
    f.branch(made)
    f.start(made)
    result = f.emit(f"phi ptr [ {new}, %{by_numpy} ], [ {called}, %{by_callable} ]")
    unkept = f.emit(f"or i1 {f.emit(f'icmp eq ptr {result}, null')}, {f.emit(f'icmp eq ptr {ring}, null')}")
    f.branch_if(unkept, done, keep)
    # The newer of the two kept arrays moves to the second place, the older one is let go.
    f.start(keep)
    _invoke(f, API.INCREF, "void", [f"ptr {result}"])
    newer, older = _word(f, ring, 0, "ptr"), _word(f, ring, 1, "ptr")
    _set(f, ring, 0, result, "ptr")
    _set(f, ring, 1, newer, "ptr")
    old = f.label("old")
    f.branch_if(f.emit(f"icmp eq ptr {older}, null"), done, old)
    f.start(old)
    _invoke(f, API.DECREF, "void", [f"ptr {older}"])
    f.branch(done)
    f.start(done)
    return f.finish(f"ret ptr {result}")


def _outputs() -> str:
    """Get all outputs and put their pointers into the table; false, with nothing owned and an exception, if that fails."""
    f = Function("i1", "@outputs", ["ptr %chosen"])
    failed = f.label("failed")
    pointers = _word(f, "%chosen", Entry.POINTERS, "ptr")
    with _each(f, _word(f, "%chosen", Entry.OUTPUTS, "ptr"), _word(f, "%chosen", Entry.OUTPUT_COUNT), Output.WORDS) as (
        record,
        _,
    ):
        a = f.emit(f"call ptr @output(ptr {record})")
        _require(f, f.emit(f"icmp ne ptr {a}, null"), failed)
        _set(f, record, Output.CURRENT, a, "ptr")
        slot = f.emit(f"getelementptr ptr, ptr {pointers}, i64 {_word(f, record, Output.SLOT)}")
        f.do(f"store ptr {_at(f, a, Object.ARRAY_DATA, 'ptr')}, ptr {slot}, align 8")
    f.do("ret i1 true")
    f.start(failed)
    f.do("call void @drop(ptr %chosen)")
    return f.finish("ret i1 false")


def _drop() -> str:
    """Let go of the outputs that the call still owns."""
    f = Function("void", "@drop", ["ptr %chosen"])
    with _each(f, _word(f, "%chosen", Entry.OUTPUTS, "ptr"), _word(f, "%chosen", Entry.OUTPUT_COUNT), Output.WORDS) as (
        record,
        _,
    ):
        a = _word(f, record, Output.CURRENT, "ptr")
        _set(f, record, Output.CURRENT, "null", "ptr")
        owned, free = f.label("owned"), f.label("free")
        f.branch_if(f.emit(f"icmp eq ptr {a}, null"), free, owned)
        f.start(owned)
        _invoke(f, API.DECREF, "void", [f"ptr {a}"])
        f.branch(free)
        f.start(free)
    return f.finish("ret void")


# -- results ------------------------------------------------------------------------------------------------------------


def _item() -> str:
    """A leaf of the result, owned by the caller; null with an exception set on failure."""
    f = Function("ptr", "@item", ["ptr %record", "ptr %chosen", "ptr %items", "ptr %made"])
    value = _word(f, "%record", Item.VALUE)
    kinds = [ItemKind.REPEATED, ItemKind.WRAPPED, ItemKind.SCALAR, ItemKind.ARGUMENT, ItemKind.OBJECT, ItemKind.ARRAY]
    repeated, wrapped, scalar, argument, object_, array = _switch(f, _word(f, "%record", Item.KIND), kinds)
    give = f.label("give")
    f.start(array)
    x = _current(f, value)
    f.branch(give)
    f.start(argument)
    given = f.emit(f"load ptr, ptr {f.emit(f'getelementptr ptr, ptr %items, i64 {value}')}, align 8")
    f.branch(give)
    f.start(object_)
    known = f.emit(f"inttoptr i64 {value} to ptr")
    f.branch(give)
    f.start(repeated)
    earlier = f.emit(f"load ptr, ptr {f.emit(f'getelementptr ptr, ptr %made, i64 {value}')}, align 8")
    f.branch(give)
    f.start(give)
    cases = [(x, array), (given, argument), (known, object_), (earlier, repeated)]
    result = f.emit(f"phi ptr {', '.join(f'[ {value}, %{case} ]' for value, case in cases)}")
    _invoke(f, API.INCREF, "void", [f"ptr {result}"])
    f.do(f"ret ptr {result}")
    f.start(scalar)
    memory = f.emit(f"inttoptr i64 {value} to ptr")
    dtype = _word(f, "%record", Item.EXTRA, "ptr")
    number = _invoke(f, API.SCALAR_NEW, "ptr", [f"ptr {memory}", f"ptr {dtype}", "ptr null"])
    f.do(f"ret ptr {number}")
    f.start(wrapped)
    template = _word(f, "%record", Item.EXTRA, "ptr")
    made = f.emit(f"call ptr @instance(ptr {template}, ptr {_current(f, value)})")
    return f.finish(f"ret ptr {made}")


def _instance() -> str:
    """A new object by a template, for an array; null with an exception set on failure."""
    f = Function("ptr", "@instance", ["ptr %template", "ptr %array"])
    failed, dropped = f.label("failed"), f.label("dropped")
    type_ = _word(f, "%template", Template.TYPE, "ptr")
    new = _invoke(f, API.TYPE_ALLOC, "ptr", [f"ptr {type_}", "i64 0"])
    _require(f, f.emit(f"icmp ne ptr {new}, null"), failed)
    fields, count = _word(f, "%template", Template.FIELDS, "ptr"), _word(f, "%template", Template.COUNT)
    with _each(f, fields, count, Field.WORDS) as (record, _):
        value = _word(f, record, Field.VALUE, "ptr")
        place = f.emit(f"getelementptr i8, ptr {new}, i64 {_word(f, record, Field.OFFSET)}")
        kinds = [FieldKind.INSTANCE, FieldKind.ARRAY, FieldKind.OBJECT]
        instance, array, object_ = _switch(f, _word(f, record, Field.KIND), kinds)
        shared, next_ = f.label("shared"), f.label("next")
        f.start(array)
        f.branch(shared)
        f.start(object_)
        f.branch(shared)
        f.start(shared)
        known = f.emit(f"phi ptr [ %array, %{array} ], [ {value}, %{object_} ]")
        _invoke(f, API.INCREF, "void", [f"ptr {known}"])
        f.do(f"store ptr {known}, ptr {place}, align 8")
        f.branch(next_)
        f.start(instance)
        inner = f.emit(f"call ptr @instance(ptr {value}, ptr %array)")
        f.do(f"store ptr {inner}, ptr {place}, align 8")
        f.branch_if(f.emit(f"icmp eq ptr {inner}, null"), dropped, next_)
        f.start(next_)
    f.do(f"ret ptr {new}")
    f.start(dropped)
    _invoke(f, API.DECREF, "void", [f"ptr {new}"])
    f.branch(failed)
    f.start(failed)
    return f.finish("ret ptr null")


def _current(f: Function, number: str) -> str:
    """The array of output `number`."""
    offset = f.emit(f"mul i64 {number}, {8 * Output.WORDS}")
    record = f.emit(f"getelementptr i8, ptr {_word(f, '%chosen', Entry.OUTPUTS, 'ptr')}, i64 {offset}")
    return _word(f, record, Output.CURRENT, "ptr")


def _results() -> str:
    """The call's result; null with an exception set on failure."""
    f = Function("ptr", "@results", ["ptr %chosen", "ptr %items"])
    records, count = _word(f, "%chosen", Entry.ITEMS, "ptr"), _word(f, "%chosen", Entry.ITEM_COUNT)
    single, several, failed, unmade = (f.label(x) for x in ("single", "several", "failed", "unmade"))
    f.branch_if(f.emit(f"icmp eq i64 {_word(f, '%chosen', Entry.IS_TUPLE)}, 0"), single, several)
    f.start(single)
    f.do(f"ret ptr {f.emit(f'call ptr @item(ptr {records}, ptr %chosen, ptr %items, ptr null)')}")
    f.start(several)
    result = _invoke(f, API.TUPLE_NEW, "ptr", [f"i64 {count}"])
    _require(f, f.emit(f"icmp ne ptr {result}, null"), unmade)
    made = f.emit(f"getelementptr i8, ptr {result}, i64 {int(Object.TUPLE_ITEMS)}")
    with _each(f, records, count, Item.WORDS) as (record, number):
        x = f.emit(f"call ptr @item(ptr {record}, ptr %chosen, ptr %items, ptr {made})")
        _require(f, f.emit(f"icmp ne ptr {x}, null"), failed)
        f.do(f"store ptr {x}, ptr {f.emit(f'getelementptr ptr, ptr {made}, i64 {number}')}, align 8")
    plain, wrapped = f.label("plain"), f.label("wrapped")
    wrap = _word(f, "%chosen", Entry.WRAP, "ptr")
    f.branch_if(f.emit(f"icmp eq ptr {wrap}, null"), plain, wrapped)
    f.start(plain)
    f.do(f"ret ptr {result}")
    f.start(wrapped)
    container = _invoke(f, API.CALL_ONE_ARGUMENT, "ptr", [f"ptr {wrap}", f"ptr {result}"])
    _invoke(f, API.DECREF, "void", [f"ptr {result}"])
    f.do(f"ret ptr {container}")
    f.start(failed)
    _invoke(f, API.DECREF, "void", [f"ptr {result}"])
    f.branch(unmade)
    f.start(unmade)
    return f.finish("ret ptr null")


# -- the call -----------------------------------------------------------------------------------------------------------


def _slow() -> str:
    """The Python method, which does the whole call."""
    f = Function("ptr", "@slow", ["ptr %self", "ptr %tuple", "ptr %keywords"])
    method = _invoke(f, API.METHOD_NEW, "ptr", [f"ptr {_api(f, API.SLOW)}", "ptr %self"])
    failed = f.label("failed")
    _require(f, f.emit(f"icmp ne ptr {method}, null"), failed)
    result = _invoke(f, API.CALL, "ptr", [f"ptr {method}", "ptr %tuple", "ptr %keywords"])
    _invoke(f, API.DECREF, "void", [f"ptr {method}"])
    f.do(f"ret ptr {result}")
    f.start(failed)
    return f.finish("ret ptr null")


def _run() -> str:
    """Run an entry that matches: `{result, whether Python must do it after all}`."""
    f = Function("{ ptr, i1 }", "@run", ["ptr %chosen", "ptr %items"])
    failed, refused, locked, unlock = (f.label(x) for x in ("failed", "refused", "locked", "unlock"))
    _set(f, "%chosen", Entry.BUSY, "1")
    _require(f, f.emit("call i1 @outputs(ptr %chosen)"), failed)
    lock = _word(f, "%chosen", Entry.LOCK, "ptr")
    take = f.label("take")
    f.branch_if(f.emit(f"icmp eq ptr {lock}, null"), locked, take)
    f.start(take)
    false = _api(f, API.FALSE)
    taken = _invoke(f, API.CALL_ONE_ARGUMENT, "ptr", [f"ptr {lock}", f"ptr {false}"])
    unlocked = f.label("unlocked")
    _require(f, f.emit(f"icmp ne ptr {taken}, null"), unlocked)
    _invoke(f, API.DECREF, "void", [f"ptr {taken}"])
    _same(f, taken, _api(f, API.TRUE), refused)
    f.branch(locked)
    f.start(unlocked)
    f.do("call void @drop(ptr %chosen)")
    f.branch(failed)

    f.start(locked)
    function = _word(f, "%chosen", Entry.FUNCTION, "ptr")
    places = ", ".join(f"ptr {_word(f, '%chosen', w, 'ptr')}" for w in (Entry.POINTERS, Entry.SIZES, Entry.ARENA))
    short, long, ran = f.label("short"), f.label("long"), f.label("ran")
    f.branch_if(f.emit(f"icmp eq i64 {_word(f, '%chosen', Entry.LONG)}, 0"), short, long)
    f.start(short)
    short_status = f.emit(f"call i64 {function}({places})")
    f.branch(ran)
    f.start(long)
    thread = _invoke(f, API.SAVE_THREAD, "ptr", [])
    long_status = f.emit(f"call i64 {function}({places})")
    _invoke(f, API.RESTORE_THREAD, "void", [f"ptr {thread}"])
    f.branch(ran)
    f.start(ran)
    status = f.emit(f"phi i64 [ {short_status}, %{short} ], [ {long_status}, %{long} ]")
    passed = f.emit(f"icmp eq i64 {status}, 0")
    count, wrote = f.label("count"), f.label("wrote")
    f.branch_if(passed, count, wrote)
    f.start(count)
    _bump(f)
    calls = _word(f, "%chosen", Entry.CALLS, "ptr")
    f.do(f"store i64 {f.emit(f'add i64 {_at(f, calls, 0)}, 1')}, ptr {calls}, align 8")
    f.branch(wrote)
    f.start(wrote)
    release = _word(f, "%chosen", Entry.UNLOCK, "ptr")
    finish = f.label("finish")
    f.branch_if(f.emit(f"icmp eq ptr {release}, null"), finish, unlock)
    f.start(unlock)
    _invoke(f, API.DECREF, "void", [f"ptr {_invoke(f, API.CALL_NO_ARGUMENTS, 'ptr', [f'ptr {release}'])}"])
    f.branch(finish)
    f.start(finish)
    _require(f, passed, refused)
    result = f.emit("call ptr @results(ptr %chosen, ptr %items)")
    f.do("call void @drop(ptr %chosen)")
    _set(f, "%chosen", Entry.BUSY, "0")
    f.do(f"ret {{ ptr, i1 }} {f.emit(f'insertvalue {{ ptr, i1 }} {{ ptr null, i1 false }}, ptr {result}, 0')}")
    # A failure that native code reports, or another thread that writes state: nothing has changed.
    f.start(refused)
    f.do("call void @drop(ptr %chosen)")
    _set(f, "%chosen", Entry.BUSY, "0")
    f.do("ret { ptr, i1 } { ptr null, i1 true }")
    f.start(failed)
    _set(f, "%chosen", Entry.BUSY, "0")
    return f.finish("ret { ptr, i1 } { ptr null, i1 false }")


def _bump(f: Function) -> None:
    """Count up the Python integers of the entry; one that cannot be made stays as it is."""
    bumps, count = _word(f, "%chosen", Entry.BUMPS, "ptr"), _word(f, "%chosen", Entry.BUMP_COUNT)
    with _each(f, bumps, count, 1) as (bump, _):
        place = f.emit(f"load ptr, ptr {bump}, align 8")
        old = f.emit(f"load ptr, ptr {place}, align 8")
        number = f.emit(f"add i64 {_invoke(f, API.LONG_AS, 'i64', [f'ptr {old}'])}, 1")
        new = _invoke(f, API.LONG_FROM, "ptr", [f"i64 {number}"])
        made, next_ = f.label("made"), f.label("next")
        f.branch_if(f.emit(f"icmp eq ptr {new}, null"), next_, made)
        f.start(made)
        f.do(f"store ptr {new}, ptr {place}, align 8")
        _invoke(f, API.DECREF, "void", [f"ptr {old}"])
        f.branch(next_)
        f.start(next_)


def _call() -> str:
    """The slot `tp_call`."""
    f = Function("ptr", f"@{CALL}", ["ptr %self", "ptr %tuple", "ptr %keywords"], linkage="dso_local")
    found = f.emit("alloca ptr, align 8")
    slow, run, given, positional = (f.label(x) for x in ("slow", "run", "given", "positional"))
    f.branch_if(f.emit("icmp eq ptr %keywords, null"), positional, given)
    f.start(given)
    f.branch_if(f.emit(f"icmp eq i64 {_at(f, '%keywords', Object.DICT_SIZE)}, 0"), positional, slow)
    f.start(positional)
    first = _at(f, "%self", Object.HEAD, "ptr")
    _require(f, f.emit(f"icmp ne ptr {first}, null"), slow)
    tracing = _context(f, API.TRACE, found, slow)
    _same(f, tracing, _api(f, API.NONE), slow)
    grad = _context(f, API.GRAD_MODE, found, slow)
    count = _at(f, "%tuple", Object.SIZE)
    items = f.emit(f"getelementptr i8, ptr %tuple, i64 {int(Object.TUPLE_ITEMS)}")
    header = f.loop_header("search")
    entry = f.phi("ptr", first)
    _require(f, f.emit(f"icmp ne ptr {entry.name}, null"), slow)
    match = f.emit(f"call i1 @matches(ptr {entry.name}, ptr {items}, i64 {count}, ptr {grad})")
    other = f.label("other")
    f.branch_if(match, run, other)
    f.start(other)
    entry.add(_word(f, entry.name, Entry.NEXT, "ptr"), f.block)
    f.branch(header)
    f.start(run)
    pair = f.emit(f"call {{ ptr, i1 }} @run(ptr {entry.name}, ptr {items})")
    done = f.label("done")
    f.branch_if(f.emit(f"extractvalue {{ ptr, i1 }} {pair}, 1"), slow, done)
    f.start(done)
    f.do(f"ret ptr {f.emit(f'extractvalue {{ ptr, i1 }} {pair}, 0')}")
    f.start(slow)
    return f.finish(f"ret ptr {f.emit('call ptr @slow(ptr %self, ptr %tuple, ptr %keywords)')}")


def _context(f: Function, variable: API, place: str, slow: str) -> str:
    """The object that a context variable holds; the variable or its default keeps it alive."""
    f.do(f"store ptr null, ptr {place}, align 8")
    status = _invoke(f, API.CONTEXT_GET, "i32", [f"ptr {_api(f, variable)}", "ptr null", f"ptr {place}"])
    _same(f, status, "0", slow, "i32")
    value = f.emit(f"load ptr, ptr {place}, align 8")
    _require(f, f.emit(f"icmp ne ptr {value}, null"), slow)
    _invoke(f, API.DECREF, "void", [f"ptr {value}"])
    return value
