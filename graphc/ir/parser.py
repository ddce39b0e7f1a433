"""Text to graphs, the inverse of the printer. Layer 1.

Hand-written: a token list and one method a construct. Every error is a ParseError that names file, line and column, shows
the source line with a caret, and says what was expected; the ops' own type errors are shown at the node they concern.

With `check=False` nodes are built by the unchecked constructor exactly as written (operands may even be used before they are
defined), so that tests can build every fault that the verifier claims to find.
"""

from __future__ import annotations

import json
import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from graphc import dtypes
from graphc.dtypes import DType
from graphc.errors import GraphcError, ParseError
from graphc.ir import dims, registry
from graphc.ir.dims import Dim
from graphc.ir.graph import Attribute, Graph, Literal, Node, Value, input_value, make
from graphc.ir.location import FileLocation
from graphc.ir.op import Op
from graphc.ir.printer import side_file
from graphc.ir.types import TOKEN, TensorType, Type
from graphc.ir.verify import INFERENCE_ERRORS, inference_text, verify

__all__ = ["load", "parse"]

Constants = Mapping[str, np.ndarray[Any, Any]]
ItemT = TypeVar("ItemT")


def parse(text: str, *, file: str = "<text>", check: bool = True, constants: Constants | None = None) -> Graph:
    """The graph that `text` describes.

    `constants` are the arrays of constants that are written as digests. With `check`, the result is verified.

    Raises
    ------
    ParseError
        If the text is not a graph, or an op is not defined for the operands it is given.
    VerifyError
        If the graph breaks another invariant of the IR.
    """
    parser = _Parser(text, file, check, constants or {})
    graph = parser.graph()
    parser.expect("end", "the end of the text")
    if check:
        verify(graph)
    return graph


def load(path: str | Path, *, check: bool = True) -> Graph:
    """The graph that `printer.save` wrote to `path`, with its side file of constants if there is one."""
    path = Path(path)
    side = side_file(path)
    constants: dict[str, np.ndarray[Any, Any]] = {}
    if side.exists():
        with np.load(side, allow_pickle=False) as arrays:
            constants = {digest: dtypes.stored(arrays[digest]) for digest in arrays.files}
    return parse(path.read_text(encoding="utf-8"), file=str(path), check=check, constants=constants)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


_TOKENS = re.compile(
    r"""(?P<space>\s+)|(?P<comment>\#[^\n]*)
    |(?P<value>%(?:"(?:[^"\\\n]|\\.)*"|[A-Za-z0-9_.]+))
    |(?P<string>"(?:[^"\\\n]|\\.)*")
    |(?P<digest><[0-9a-f]+>)
    |(?P<hex>0x[0-9a-fA-F]+)
    |(?P<float>\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    |(?P<int>\d+)
    |(?P<word>[A-Za-z_][A-Za-z0-9_.]*)
    |(?P<punctuation>->|[(){}\[\],:=+*-])""",
    re.VERBOSE,
)
_COMMENTED_PLACE = re.compile(r"(.+?):(\d+)(?:, |\Z)")
_SYMBOL = re.compile(r"s(\d+)\Z")
_BOOLS = {"true": True, "false": False}


class _Scope:
    """Values of the graph being read; in unchecked mode also uses that wait for their definition."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.defined: dict[str, _Token] = {}
        self.pending: list[tuple[Node, list[_Token]]] = []


class _Parser:
    def __init__(self, text: str, file: str, check: bool, constants: Constants) -> None:
        self.text = text
        self.file = file
        self.check = check
        self.constants = constants
        self.line_starts = [0, *(m.end() for m in re.finditer("\n", text))]
        self.comments: dict[int, str] = {}
        self.tokens = self.scan()
        self.at = 0

    # -- tokens and errors ----------------------------------------------------------------------------------------

    def scan(self) -> list[_Token]:
        tokens: list[_Token] = []
        position = 0
        while position < len(self.text):
            match = _TOKENS.match(self.text, position)
            if match is None:
                self.fail("a character that begins nothing", _Token("", "", position, position + 1))
            kind = match.lastgroup or ""
            if kind == "comment":
                self.comments[self.line(position)] = match.group()[1:].strip()
            elif kind != "space":
                kind = match.group() if kind == "punctuation" else kind
                tokens.append(_Token(kind, match.group(), position, match.end()))
            position = match.end()
        tokens.append(_Token("end", "", len(self.text), len(self.text)))
        return tokens

    def line(self, position: int) -> int:
        """The line of a position, counted from 0."""
        return bisect_right(self.line_starts, position) - 1

    def fail(self, what: str, token: _Token | None = None, hint: str | None = None) -> NoReturn:
        """Raise a ParseError that points at a token (by default the next one)."""
        token = self.peek if token is None else token
        line = self.line(token.start)
        start = self.line_starts[line]
        source = self.text[start:].partition("\n")[0]
        column = token.start - start
        width = max(1, min(token.end - token.start, len(source) - column))
        first, *rest = what.split("\n")
        lines = [
            f"{self.file}:{line + 1}:{column + 1}: {first}",
            f"  {source}",
            f"  {' ' * column}{'^' * width}",
            *rest,
        ]
        if hint:
            lines.append(f"  hint: {hint}")
        raise ParseError("\n".join(lines))

    @property
    def peek(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.peek
        self.at += token.kind != "end"
        return token

    def accept(self, kind: str) -> _Token | None:
        return self.take() if self.peek.kind == kind else None

    def expect(self, kind: str, what: str) -> _Token:
        if self.peek.kind != kind:
            found = repr(self.peek.text) if self.peek.text else "the end of the text"
            self.fail(f"expected {what}, found {found}")
        return self.take()

    def keyword(self, word: str) -> _Token:
        if self.peek.text != word:
            self.fail(f"expected '{word}', found {self.peek.text!r}")
        return self.take()

    def separated(self, close: str, item: Callable[[], ItemT]) -> list[ItemT]:
        """Items between commas up to and with the closing bracket."""
        items: list[ItemT] = []
        while not self.accept(close):
            if items:
                self.expect(",", f"',' or '{close}'")
            items.append(item())
        return items

    # -- graphs and nodes -----------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        self.keyword("graph")
        name = self.string(self.expect("string", "the graph's name in quotes"))
        scope = _Scope()
        self.expect("(", "'(' and the inputs")
        declared = self.separated(")", self.typed_name)
        for i, (token, type_) in enumerate(declared):
            self.define(scope, token, input_value(i, type_))
        self.expect("->", "'->' and the types of the outputs")
        self.expect("(", "'('")
        types = self.separated(")", self.type)
        self.expect("{", "'{'")
        locations: dict[Node, tuple[FileLocation, ...]] = {}
        while self.peek.text != "return":
            self.node(scope, locations)
        outputs = self.outputs(scope, types)
        self.resolve(scope)
        texts = [self.value_name(token) for token, _ in declared]
        numbered = all(token.text[1:].isdigit() for token, _ in declared)
        inputs = tuple(type_ for _, type_ in declared)
        return Graph(inputs, outputs, name, () if numbered else tuple(texts), locations)

    def outputs(self, scope: _Scope, types: list[Type]) -> tuple[Value, ...]:
        keyword = self.keyword("return")
        outputs: list[Value] = []
        while self.peek.kind == "value" or outputs:
            if outputs and not self.accept(","):
                break
            token = self.expect("value", "an output")
            value = self.lookup(scope, token)
            wanted = types[len(outputs)] if len(outputs) < len(types) else value.type
            if self.check and value.type != wanted:
                self.fail(f"the head says that this output is {wanted}, it is {value.type}", token)
            outputs.append(value)
        if len(outputs) != len(types):
            self.fail(f"outputs in the head: {len(types)}; returned: {len(outputs)}", keyword)
        self.expect("}", "'}' after the outputs")
        return tuple(outputs)

    def node(self, scope: _Scope, locations: dict[Node, tuple[FileLocation, ...]]) -> None:
        if self.peek.kind != "value":
            self.fail(f"expected a result (%name: type) or 'return', found {self.peek.text or 'the end of the text'!r}")
        results = [self.typed_name()]
        while self.accept(","):
            results.append(self.typed_name())
        self.expect("=", "'=' and an op")
        op, name = self.op()
        self.expect("(", "'(' after the op's name")
        operands = self.separated(")", lambda: self.expect("value", "an operand"))
        attrs: dict[str, Attribute] = {}
        if self.accept("{"):
            self.separated("}", lambda: self.named_attribute(op, attrs))
        comment = self.comments.get(self.line(self.tokens[self.at - 1].start))
        node = self.build(scope, op, name, operands=operands, attrs=attrs, results=results)
        for (token, _), value in zip(results, node.results, strict=True):
            self.define(scope, token, value)
        places = tuple(FileLocation(f, int(n)) for f, n in _COMMENTED_PLACE.findall(comment or ""))
        if places:
            known = locations.get(node, ())
            locations[node] = known + tuple(p for p in places if p not in known)

    def op(self) -> tuple[Op, _Token]:
        token = self.expect("word", "an op's name")
        try:
            op = registry.get(token.text)
        except GraphcError as error:
            self.fail(str(error), token)
        if self.check and op.name == "input":
            self.fail("inputs stand in the graph's head", token)
        return op, token

    def build(
        self,
        scope: _Scope,
        op: Op,
        name: _Token,
        *,
        operands: list[_Token],
        attrs: dict[str, Attribute],
        results: list[tuple[_Token, Type]],
    ) -> Node:
        types = tuple(type_ for _, type_ in results)
        if not self.check:
            node = Node.unchecked(op, (), attrs, types)
            scope.pending.append((node, operands))
            return node
        values = [self.lookup(scope, token) for token in operands]
        try:
            node = make(op, values, **attrs)
        except INFERENCE_ERRORS as error:
            self.fail(inference_text(op.name, error), name)
        if len(node.types) != len(types):
            self.fail(f"results of {op.name}: {len(node.types)}; written: {len(types)}", results[0][0])
        for (token, written), inferred in zip(results, node.types, strict=True):
            if written != inferred:
                self.fail(f"{op.name} gives {inferred}, the text says {written}", token)
        return node

    def resolve(self, scope: _Scope) -> None:
        """Give unchecked nodes their operands, now that all are defined."""
        for node, operands in scope.pending:
            node.operands = tuple(self.lookup(scope, token) for token in operands)

    def define(self, scope: _Scope, token: _Token, value: Value) -> None:
        name = self.key(token)
        if name in scope.defined:
            line = self.line(scope.defined[name].start) + 1
            self.fail(f"{token.text} is defined already, in line {line}", token)
        scope.defined[name] = token
        scope.values[name] = value

    def lookup(self, scope: _Scope, token: _Token) -> Value:
        found = scope.values.get(self.key(token))
        if found is None:
            self.fail(f"{token.text} is not defined here", token)
        return found

    def typed_name(self) -> tuple[_Token, Type]:
        token = self.expect("value", "a value (%name)")
        self.expect(":", f"':' and the type of {token.text}")
        return token, self.type()

    def value_name(self, token: _Token) -> str:
        return self.string(token, 1) if token.text.startswith('%"') else token.text[1:]

    def key(self, token: _Token) -> str:
        """What the value is known by: `%x` and `%"x"` are one, the number `%0` and the name `%"0"` are two."""
        name = self.value_name(token)
        return token.text if name.isdigit() else name

    def string(self, token: _Token, skip: int = 0) -> str:
        try:
            return str(json.loads(token.text[skip:]))
        except ValueError as error:
            self.fail(f"this is not a string: {error}", token)

    # -- types and dimensions -------------------------------------------------------------------------------------

    def type(self) -> Type:
        token = self.expect("word", "a type (f32[2, s0] or token)")
        if token.text == "token":
            return TOKEN
        dtype = self.dtype(token)
        self.expect("[", f"'[' and the shape after {token.text}")
        return self.shape(dtype)

    def shape(self, dtype: DType) -> TensorType:
        return TensorType(dtype, tuple(self.separated("]", self.dimension)))

    def dtype(self, token: _Token) -> DType:
        try:
            return dtypes.from_name(token.text)
        except GraphcError as error:
            self.fail(str(error), token)

    def dimension(self) -> Dim:
        total = self.product()
        while self.peek.kind in "+-":
            if self.take().kind == "+":
                total = total + self.product()
            else:
                total = total - self.product()
        return total

    def product(self) -> Dim:
        total = self.factor()
        while self.accept("*"):
            total = total * self.factor()
        return total

    def factor(self) -> Dim:
        if self.accept("-"):
            return self.factor() * -1
        if (token := self.accept("int")) is not None:
            return int(token.text)
        token = self.expect("word", "a dimension (an integer or a symbol such as s0)")
        if (symbol := _SYMBOL.match(token.text)) is not None:
            return dims.symbol(int(symbol[1]))
        if token.text not in ("floordiv", "pos"):
            self.fail(f"expected a dimension (an integer or a symbol such as s0), found {token.text!r}", token)
        self.expect("(", "'('")
        operands = self.separated(")", self.dimension)
        if len(operands) != (2 if token.text == "floordiv" else 1):
            self.fail(f"{token.text} takes another number of operands", token)
        return operands[0] // operands[1] if token.text == "floordiv" else dims.pos(operands[0])

    # -- attributes -----------------------------------------------------------------------------------------------

    def named_attribute(self, op: Op, attrs: dict[str, Attribute]) -> None:
        token = self.expect("word", "an attribute's name")
        if token.text in attrs:
            self.fail(f"attribute {token.text} is given twice", token)
        if self.check and token.text not in op.attributes:
            known = f"its attributes are {', '.join(op.attributes)}" if op.attributes else "it has none"
            self.fail(f"{op.name} has no attribute {token.text!r}; {known}", token)
        self.expect("=", f"'=' after {token.text}")
        attrs[token.text] = self.attribute()

    def attribute(self) -> Attribute:
        token = self.peek
        if token.text in _WORDS:
            return _WORDS[self.take().text]
        if token.text == "graph":
            return self.graph()
        if token.text == "dense":
            return self.literal()
        if token.text == "bits":
            return struct.unpack("<d", struct.pack("<Q", self.pattern(64)))[0]
        if token.kind == "string":
            return self.string(self.take())
        if self.accept("["):
            return tuple(self.separated("]", self.attribute))
        if token.kind in ("word", "int", "float", "-"):
            return self.number_or_type()
        self.fail(f"expected an attribute, found {token.text!r}")

    def number_or_type(self) -> Attribute:
        """A float, a dimension, a dtype or a type."""
        token = self.peek
        following = self.tokens[self.at + (token.kind == "-")]
        if following.kind == "float" or following.text in ("inf", "nan"):
            return self.float_attribute()
        dimension = _SYMBOL.match(token.text) or token.text in ("floordiv", "pos")
        if token.kind != "word" or dimension:
            return self.dimension()
        dtype = self.dtype(self.take())
        return self.shape(dtype) if self.accept("[") else dtype

    def float_attribute(self) -> float:
        sign = "-" if self.accept("-") else ""
        return float(sign + self.take().text)

    def pattern(self, bits: int) -> int:
        self.keyword("bits")
        self.expect("(", "'('")
        token = self.expect("hex", "a bit pattern (0x...)")
        pattern = int(token.text, 16)
        if pattern >> bits:
            self.fail(f"the pattern has more than {bits} bits", token)
        self.expect(")", "')'")
        return pattern

    def literal(self) -> Literal:
        """`dense f32[2] [1.0, 2.0]`, `dense f32[9] splat(0.0)` or `dense f32[64] <digest>`."""
        self.keyword("dense")
        head = self.peek
        type_ = self.type()
        if not isinstance(type_, TensorType) or not dims.is_static(type_.shape):
            self.fail("a constant has a dtype and a shape of integers", head)
        if (digest := self.accept("digest")) is not None:
            return self.stored(type_, digest)
        array = np.empty([d for d in type_.shape if isinstance(d, int)], type_.dtype.numpy)
        if self.peek.text == "splat":
            self.take()
            self.expect("(", "'('")
            array[...] = self.element(type_.dtype)
            self.expect(")", "')'")
        else:
            start = self.peek
            elements = self.elements(type_.dtype, array.shape)
            if len(elements) != array.size:
                self.fail(f"{type_} has {array.size} elements, {len(elements)} are written", start)
            array.reshape(-1)[...] = elements
        return Literal(array)

    def elements(self, dtype: DType, shape: Sequence[int]) -> list[Any]:
        """Elements in brackets nested as deep as the shape; recursion is over axes."""
        if not shape:
            return [self.element(dtype)]
        start = self.expect("[", f"'[' and {shape[0]} elements")
        rows = self.separated("]", lambda: self.elements(dtype, shape[1:]))
        if len(rows) != shape[0]:
            self.fail(f"expected {shape[0]} elements here, found {len(rows)}", start)
        return [element for row in rows for element in row]

    def element(self, dtype: DType) -> Any:
        token = self.peek
        if dtype.is_bool and token.text in _BOOLS:
            return np.bool_(_BOOLS[self.take().text])
        if dtype.is_complex and token.text == "complex":
            return self.complex(dtype)
        if dtype.is_float and token.text == "bits":
            return np.frombuffer(self.pattern(dtype.bits).to_bytes(dtype.itemsize, "little"), dtype.numpy)[0]
        sign = -1 if self.accept("-") else 1
        number = self.peek
        if dtype.is_float and (number.kind in ("float", "int") or number.text in ("inf", "nan")):
            return self.floating(dtype, sign * float(self.take().text), token)
        if dtype.is_integer and number.kind == "int":
            return self.integer(dtype, sign * int(self.take().text), token)
        self.fail(f"expected an element of {dtype}, found {number.text!r}", token)

    def complex(self, dtype: DType) -> Any:
        """`complex(1.0, -0.0)`; made from its parts' bits, for a sum of them would change zeros and NaN."""
        self.take()
        self.expect("(", "'('")
        parts = [self.element(dtype.part)]
        self.expect(",", "',' and the imaginary part")
        parts.append(self.element(dtype.part))
        self.expect(")", "')'")
        return np.array(parts, dtype.part.numpy).view(dtype.numpy)[0]

    def floating(self, dtype: DType, value: float, token: _Token) -> Any:
        with np.errstate(over="ignore"):
            rounded = dtype.numpy.type(value)
        if np.isinf(rounded) and abs(value) != float("inf"):
            self.fail(f"{value} is beyond the range of {dtype}", token)
        return rounded

    def integer(self, dtype: DType, value: int, token: _Token) -> Any:
        limits = np.iinfo(dtype.numpy)
        if not limits.min <= value <= limits.max:
            self.fail(f"{value} is beyond the range of {dtype}", token)
        return dtype.numpy.type(value)

    def stored(self, type_: TensorType, digest: _Token) -> Literal:
        array = self.constants.get(digest.text[1:-1])
        if array is None:
            self.fail(
                "the elements of this constant are not in the text",
                digest,
                hint="Load the file with the .npz file that was saved beside it.",
            )
        literal = Literal(array)
        if literal.digest != digest.text[1:-1] or literal.type != type_:
            self.fail(f"the side file holds another constant, {literal.type}, under this digest", digest)
        return literal


_WORDS: dict[str, Attribute] = {**_BOOLS, "none": None, "token": TOKEN}
