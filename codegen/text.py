"""Writing LLVM IR as text. Layer 4, codegen.

`Function` collects the lines of one function and hands out names. Temporaries are `%t<N>`; labels are `<hint>.<N>`;
every other name in a function (parameters) must not begin with `t` followed by a digit. Text and parsing are some
twenty times faster than building the same module through an object tree (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Function", "Phi"]


class Function:
    """One LLVM function under construction.

    >>> f = Function("void", "@copy", ["ptr noalias %src", "ptr noalias %dst"])
    >>> x = f.emit("load float, ptr %src")
    >>> f.do(f"store float {x}, ptr %dst")
    >>> print(f.finish("ret void"))
    define internal void @copy(ptr noalias %src, ptr noalias %dst) nounwind #0 {
    entry:
      %t0 = load float, ptr %src
      store float %t0, ptr %dst
      ret void
    }
    """

    def __init__(self, result: str, name: str, parameters: Sequence[str], *, linkage: str = "internal") -> None:
        self.name = name
        self.block = "entry"
        self._head = f"define {linkage} {result} {name}({', '.join(parameters)}) nounwind #0 {{"
        self._lines: list[str] = ["entry:"]
        self._next = 0
        self.declarations: dict[str, str] = {}
        """Declarations of intrinsics that the module needs: name to full `declare` line."""

    def fresh(self) -> str:
        """A new temporary's name."""
        self._next += 1
        return f"%t{self._next - 1}"

    def emit(self, instruction: str) -> str:
        """Append `%tN = instruction` and return `%tN`."""
        name = self.fresh()
        self._lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        """Append an instruction without a result."""
        self._lines.append(f"  {instruction}")

    def comment(self, text: str) -> None:
        self._lines.append(f"  ; {text}")

    def intrinsic(self, result: str, name: str, operands: Sequence[str]) -> str:
        """Call the intrinsic `name` (`llvm.fma.v16f32`) with typed operands (`<16 x float> %x`) and declare it."""
        types = ", ".join(o.rsplit(" ", 1)[0] for o in operands)
        self.declarations[name] = f"declare {result} @{name}({types})"
        return self.emit(f"call {result} @{name}({', '.join(operands)})")

    def label(self, hint: str) -> str:
        """A new label's name; it is placed by `start`."""
        self._next += 1
        return f"{hint}.{self._next - 1}"

    def start(self, label: str) -> None:
        """Begin the basic block `label`."""
        self._lines.append(f"{label}:")
        self.block = label

    def branch(self, label: str) -> None:
        self.do(f"br label %{label}")

    def branch_if(self, condition: str, then: str, otherwise: str) -> None:
        self.do(f"br i1 {condition}, label %{then}, label %{otherwise}")

    def phi(self, type_: str, value: str) -> Phi:
        """A phi node in the current block with one incoming value from the block before it."""
        name = self.fresh()
        self._lines.append("")
        phi = Phi(self, name, type_, len(self._lines) - 1)
        phi.add(value, self._previous_block)
        return phi

    _previous_block: str = "entry"

    def loop_header(self, hint: str) -> str:
        """Branch from the current block to a new block and start it; phis of the new block come next."""
        label = self.label(hint)
        self._previous_block = self.block
        self.branch(label)
        self.start(label)
        return label

    def finish(self, terminator: str) -> str:
        """The function's text."""
        self.do(terminator)
        return "\n".join([self._head, *self._lines, "}"])


class Phi:
    """A phi node; its line is completed as incoming values become known."""

    def __init__(self, function: Function, name: str, type_: str, line: int) -> None:
        self.name = name
        self._function = function
        self._type = type_
        self._line = line
        self._incoming: list[str] = []

    def add(self, value: str, block: str) -> None:
        """Add an incoming value."""
        self._incoming.append(f"[ {value}, %{block} ]")
        self._function._lines[self._line] = f"  {self.name} = phi {self._type} {', '.join(self._incoming)}"
