"""Every contraction as one LLVM function: batch loops, k blocks, panels and rows around the micro-kernels. Layer 4, codegen.

`emit_gemm` writes the driver `@name` and the helper functions it needs (`@name_*`). What is computed and in which order
sums are formed stands in `gemm_plan`, which also chooses the schedule; the functions called are in `gemm_tile` and
`gemm_pack`. Sizes and strides are constants of the driver; the micro-kernels take the number of k iterations, the place
and all pointers as arguments, so that run-time sizes would change the driver's loops alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod

from graphc.codegen.gemm_pack import emit_copy, emit_move, emit_transpose, emit_zeros
from graphc.codegen.gemm_plan import GemmSpec, KLoop, Plan, Split, make_plan, swapped
from graphc.codegen.gemm_text import Code, advance, counted, multiply
from graphc.codegen.gemm_tile import Epilogue, Kernel, TileShape, emit_dots, emit_epilogue, emit_tile
from graphc.codegen.text import Function
from graphc.target import Target

__all__ = ["Code", "Epilogue", "GemmSpec", "emit_gemm", "make_plan", "scratch_bytes", "swapped"]


def scratch_bytes(
    spec: GemmSpec, target: Target, *, initial: bool = False, epilogue: bool = False, heavy_epilogue: bool = False
) -> int:
    """Bytes of the block that `%scratch` must point at (64-byte aligned); the arguments are those of `emit_gemm`."""
    return make_plan(spec, target, initial=initial, epilogue=epilogue, heavy_epilogue=heavy_epilogue).scratch_bytes


def emit_gemm(
    name: str,
    spec: GemmSpec,
    target: Target,
    *,
    contract: bool = True,
    initial: bool = False,
    epilogue: Epilogue | None = None,
    heavy_epilogue: bool = False,
    extra: Sequence[str] = (),
) -> Code:
    """Write `@name(ptr noalias %a, ptr noalias %b, ptr noalias %c, <extra>, ptr noalias %scratch)`.

    Parameters
    ----------
    name
        The function's name, with its `@`.
    contract
        Whether a product and its addition are rounded once (where the target can) or each.
    initial
        Whether sums begin with the values in C instead of +0.0.
    epilogue
        Called at code generation once for each place where accumulators are finished, with (vectors, accumulator,
        row, first column, batch indices, mask or None), indices as i64 text. It reads and writes what it likes through
        `%c` (the parameter itself, not moved to the tile) and the extra parameters; nothing else is stored then. At run
        time each element passes through exactly one of these places. Batch indices are those of `spec.batch`. Lanes
        that the mask excludes hold anything.
    heavy_epilogue
        The epilogue's code is large: write it once, outside of the tiles.
    extra
        Further parameters for the epilogue, as typed text (`"ptr %e0"`, `"i64 %s0"`).
    """
    plan = make_plan(spec, target, initial=initial, epilogue=epilogue is not None, heavy_epilogue=heavy_epilogue)
    driver = _Driver(
        name, spec, plan, target, initial=initial, contract=contract, epilogue=epilogue, extra=tuple(extra)
    )
    driver.write()
    return Code(driver.functions, driver.declarations)


@dataclass(frozen=True, slots=True)
class _KBlock:
    """A block of k: index of its first outermost iteration, iterations, and the i1 that says whether it is the first."""

    start: str
    count: str
    first: str


class _Driver:
    """Writes the driver function; helper functions are written when they are first called."""

    def __init__(
        self,
        name: str,
        spec: GemmSpec,
        plan: Plan,
        target: Target,
        *,
        contract: bool,
        initial: bool,
        epilogue: Epilogue | None,
        extra: tuple[str, ...],
    ) -> None:
        self.name, self.plan, self.spec = name, plan, plan.spec
        self.initial, self.extra = initial, extra
        self.functions: dict[str, str] = {}
        self.declarations: dict[str, str] = {}
        names = ["ptr noalias %a", "ptr noalias %b", "ptr noalias %c", *extra, "ptr noalias %scratch"]
        self.f = Function("void", name, names)
        self.dtype = spec.dtype
        self.a, self.b, self.c = ("%b", "%a", "%c") if plan.swap else ("%a", "%b", "%c")
        self.batch: tuple[str, ...] = ()
        self.kernel = Kernel(
            dtype=spec.dtype,
            lanes=plan.lanes,
            levels=self._levels(),
            a_row_stride=plan.a_stride,
            b_col_stride=self.spec.depth if plan.pack == "move" else self.spec.b_col_stride,
            out_stride=plan.partial_stride if plan.partial else self.spec.c_row_stride,
            initial=initial or plan.blocked,
            masked_b=plan.pack == "none",
            epilogue=epilogue,
            batch=tuple(f"i64 %batch{i}" for i in range(len(self.spec.batch))),
            extra=extra,
            m=spec.m,
            merged=plan.merged,
            contract=contract,
            features=target.features,
        )

    # -- layout -----------------------------------------------------------------------------------------------------
    def _width(self) -> int:
        """Columns of a packed panel."""
        return self.plan.columns.largest * self.plan.lanes

    def _levels(self) -> tuple[KLoop, ...]:
        """The k loops with the strides of packed operands where these are packed."""
        plan, levels, inner = self.plan, [], 1
        for extent, a, b in reversed(self.spec.k):
            packed = inner if plan.method == "dots" else inner * self._width()
            levels.append((extent, inner if plan.pack_a else a, packed if plan.pack != "none" else b))
            inner *= extent
        return tuple(reversed(levels))

    def _scratch(self, offset: int) -> str:
        return "%scratch" if not offset else self.f.emit(f"getelementptr i8, ptr %scratch, i64 {offset}")

    def _side(self) -> str:
        return self._scratch(self.plan.partial_bytes + self.plan.panel_bytes + self.plan.zero_bytes)

    # -- helpers ----------------------------------------------------------------------------------------------------
    def _call(self, suffix: str, write: Callable[[str], Function], arguments: Sequence[str]) -> None:
        """Call `@name_suffix`."""
        self._call_named(f"{self.name}_{suffix}", write, arguments)

    def _call_shared(self, what: str, write: Callable[[str], Function], arguments: Sequence[str]) -> None:
        """Call a function that all products with this dtype and vector length have in common."""
        self._call_named(f"@gemm_{what}_{self.dtype}x{self.plan.lanes}", write, arguments)

    def _call_named(self, name: str, write: Callable[[str], Function], arguments: Sequence[str]) -> None:
        """Call a function, writing it first if this is the first call."""
        if name not in self.functions:
            self._keep(write(name))
        self.f.do(f"call void {name}({', '.join(arguments)})")

    def _keep(self, function: Function) -> None:
        self.functions[function.name] = function.finish("ret void")
        self.declarations.update(function.declarations)

    def _place(self, row: str, column: str) -> list[str]:
        """Arguments for `Kernel.place`."""
        return ["ptr %c", f"i64 {row}", f"i64 {column}", *(f"i64 {b}" for b in self.batch), *self.extra]

    def _epilogue(self, held: tuple[str, int], rows: int, row: str, column: str, count: str) -> None:
        """Run the epilogue over finished values at `held` (pointer, row stride)."""
        source, stride = held
        arguments = [f"ptr {source}", f"i64 {stride}", f"i64 {rows}", f"i64 {count}", *self._place(row, column)]
        self._call("epilogue", lambda n: emit_epilogue(n, self.kernel, columns_total=self.spec.n), arguments)

    def _zero(self, pointer: str, count: int) -> None:
        self._call_shared("zeros", lambda n: emit_zeros(n, self.dtype), [f"ptr {pointer}", f"i64 {count}"])

    # -- the whole --------------------------------------------------------------------------------------------------
    def write(self) -> None:
        methods = {"empty": lambda: None, "fill": self._fill, "dots": self._dots, "tiles": self._tiles}
        body = methods[self.plan.method]
        if self.plan.zero_bytes:
            self.zero = self._scratch(self.plan.partial_bytes + self.plan.panel_bytes)
            self._zero(self.zero, self.plan.zero_bytes // self.dtype.itemsize)
        self._batches(0, body)
        self._keep(self.f)

    def _batches(self, level: int, body: Callable[[], None]) -> None:
        if self.plan.method == "empty" or level == len(self.spec.batch):
            body()
            return
        extent, a, b, c = self.spec.batch[level]

        def one(index: str) -> None:
            with self._moved(index, a, b, c):
                self._batches(level + 1, body)

        counted(self.f, extent, "batch", one)

    @contextmanager
    def _moved(self, index: str, a: int, b: int, c: int) -> Iterator[None]:
        """The operands' bases at one iteration of a batch loop."""
        before = self.a, self.b, self.c, self.batch
        self.a = advance(self.f, self.a, self.dtype, (index, a))
        self.b = advance(self.f, self.b, self.dtype, (index, b))
        self.c = advance(self.f, self.c, self.dtype, (index, c))
        self.batch = (*self.batch, index)
        yield
        self.a, self.b, self.c, self.batch = before

    def _fill(self) -> None:
        """No products: C keeps its initial values or becomes zero, or the epilogue has them."""
        spec = self.spec
        if self.kernel.epilogue is not None:
            source, stride = (self.c, spec.c_row_stride) if self.initial else (self.zero, 0)
            self._epilogue((source, stride), spec.m, "0", "0", str(spec.n))
        elif not self.initial:
            counted(
                self.f,
                spec.m,
                "row",
                lambda r: self._zero(advance(self.f, self.c, self.dtype, (r, spec.c_row_stride)), spec.n),
            )

    def _blocks(self, split: Split, hint: str, body: Callable[[int, str], None]) -> None:
        """`body(size, start)` for each block of a cut."""
        for part in split.parts():

            def one(i: str, part_size: int = part.size, part_start: int = part.start) -> None:
                moved = multiply(self.f, i, str(part_size))
                body(part_size, _plus(self.f, moved, part_start))

            counted(self.f, part.count, hint, one)

    # -- dot products -----------------------------------------------------------------------------------------------
    def _dots(self) -> None:
        plan, spec = self.plan, self.spec
        a, b = self.a, self.b
        side = self._side()
        if plan.pack_a:
            a = self._gather(self.a, spec.m, spec.a_row_stride, [(extent, s) for extent, s, _ in spec.k], side)
            side = advance(self.f, side, self.dtype, (str(spec.m * spec.depth), 1))
        if plan.pack != "none":
            b = self._gather(self.b, spec.n, spec.b_col_stride, [(extent, s) for extent, _, s in spec.k], side)
        out = "%scratch" if plan.partial else self.c

        def block(rows: int, row: str, columns: int, column: str) -> None:
            arguments = [
                f"ptr {advance(self.f, a, self.dtype, (row, self.kernel.a_row_stride))}",
                f"ptr {advance(self.f, b, self.dtype, (column, self.kernel.b_col_stride))}",
            ]
            if self.initial:
                place = (row, spec.c_row_stride), (column, 1)
                arguments += [f"ptr {advance(self.f, self.c, self.dtype, *place)}", f"i64 {spec.c_row_stride}"]
            place = (row, self.kernel.out_stride), (column, 1)
            arguments += [f"ptr {advance(self.f, out, self.dtype, *place)}", f"i64 {spec.k[0][0]}"]
            self._call(f"dots_{rows}x{columns}", lambda n: emit_dots(n, rows, columns, self.kernel), arguments)

        self._blocks(
            plan.rows,
            "row",
            lambda rows, row: self._blocks(
                plan.columns, "column", lambda columns, column: block(rows, row, columns, column)
            ),
        )
        if plan.partial:
            self._epilogue(("%scratch", plan.partial_stride), spec.m, "0", "0", str(spec.n))

    def _gather(self, source: str, count: int, stride: int, loops: list[tuple[int, int]], target: str) -> str:
        """Copy a few rows (or columns) so that each lies contiguous along all of k."""
        *outer, (extent, inner) = loops
        depth = prod(e for e, _ in loops)

        def run(src: str, dst: str) -> None:
            arguments = [f"ptr {src}", f"i64 {stride}", f"i64 {inner}", f"i64 {count}", f"i64 {extent}"]
            self._call_shared("move", lambda n: emit_move(n, self.dtype), [*arguments, f"ptr {dst}", f"i64 {depth}"])

        self._nested(outer, extent, source, target, run)
        return target

    def _nested(
        self,
        loops: Sequence[tuple[int | str, int]],
        run: int,
        source: str,
        target: str,
        body: Callable[[str, str], None],
    ) -> None:
        """Loops over (extent, source stride) around `body(source, target)`; each call fills `run` elements of the target."""
        if not loops:
            body(source, target)
            return
        (extent, stride), *rest = loops
        step = run * prod(int(e) for e, _ in rest)

        def one(i: str) -> None:
            src = advance(self.f, source, self.dtype, (i, stride))
            dst = advance(self.f, target, self.dtype, (i, step))
            self._nested(rest, run, src, dst, body)

        counted(self.f, extent, "pack", one)

    # -- tiles ------------------------------------------------------------------------------------------------------
    def _tiles(self) -> None:
        plan, spec = self.plan, self.spec
        whole = _KBlock("0", str(spec.k[0][0]), "true")
        if plan.pack_a:
            self.a = self._turn_a()
        if plan.k_outer:
            self._k_blocks(lambda k: self._panels(lambda shape, column: self._panel(shape, column, k)))
        elif plan.rows_outer:
            self._blocks(
                plan.rows,
                "row",
                lambda rows, row: self._panels(lambda shape, column: self._tile(shape, column, rows, row, whole)),
            )
        else:
            self._panels(self._panel_over_k)

    def _turn_a(self) -> str:
        """Transpose all of A, so that rows are contiguous along k."""
        plan, spec, lanes, f, dtype = self.plan, self.spec, self.plan.lanes, self.f, self.dtype
        *outer, (extent, stride, _) = spec.k

        def strips(src: str, dst: str) -> None:
            def strip(index: str, ks: int) -> None:
                source = advance(f, src, dtype, (index, lanes * stride))
                target = advance(f, dst, dtype, (index, lanes))
                self._transpose((source, stride), ks, str(spec.m), (target, plan.a_stride))

            counted(f, extent // lanes, "strip", lambda i: strip(i, lanes))
            if extent % lanes:
                strip(str(extent // lanes), extent % lanes)

        side = self._side()
        self._nested([(e, a) for e, a, _ in outer], extent, self.a, side, strips)
        return side

    def _panel_over_k(self, shape: TileShape, column: str) -> None:
        """One panel of columns, k block after k block."""
        self._k_blocks(lambda k: self._panel(shape, column, k))
        if self.plan.partial and self.plan.blocked:
            self._epilogue(("%scratch", self.plan.partial_stride), self.spec.m, "0", column, self._columns(shape))

    def _k_blocks(self, body: Callable[[_KBlock], None]) -> None:
        extent = self.spec.k[0][0]
        for number, part in enumerate(Split(extent, self.plan.k_block).parts()):

            def one(i: str, number: int = number, size: int = part.size, start: int = part.start) -> None:
                first = "false" if number else "true"
                if i.startswith("%") and not number:
                    first = self.f.emit(f"icmp eq i64 {i}, 0")
                body(_KBlock(_plus(self.f, multiply(self.f, i, str(size)), start), str(size), first))

            counted(self.f, part.count, "kblock", one)

    def _panels(self, body: Callable[[TileShape, str], None]) -> None:
        """`body(shape, first column)` for each panel; the last one may end in a partial vector."""
        lanes, remainder = self.plan.lanes, self.spec.n % self.plan.lanes
        parts = list(self.plan.columns.parts())
        if remainder:
            last = parts[-1]
            parts[-1] = replace(last, count=last.count - 1)
        for part in parts:

            def one(i: str, size: int = part.size, start: int = part.start) -> None:
                moved = multiply(self.f, i, str(size * lanes))
                body(TileShape(1, size), _plus(self.f, moved, start * lanes))

            counted(self.f, part.count, "panel", one)
        if remainder:
            body(TileShape(1, last.size, remainder), str((last.start + (last.count - 1) * last.size) * lanes))

    def _panel(self, shape: TileShape, column: str, k: _KBlock) -> None:
        """All rows of one panel over one block of k."""
        if self.plan.pack != "none":
            self._pack(shape, column, k)
        self._blocks(self.plan.rows, "row", lambda rows, row: self._tile(shape, column, rows, row, k))

    def _tile(self, shape: TileShape, column: str, rows: int, row: str, k: _KBlock) -> None:
        plan, spec, f, dtype = self.plan, self.spec, self.f, self.dtype
        shape = replace(shape, rows=rows)
        a = advance(f, self.a, dtype, (row, plan.a_stride), (k.start, self.kernel.levels[0][1]))
        b = self._panel_pointer() if plan.pack != "none" else self._b_pointer(column, k)
        c = advance(f, self.c, dtype, (row, spec.c_row_stride), (column, 1))
        out = c
        if plan.partial:
            out = advance(f, "%scratch", dtype, (row if plan.blocked else "0", plan.partial_stride))
        arguments = [f"ptr {a}", f"ptr {b}"]
        if self.kernel.initial:
            arguments += self._initial(c, out, k)
        arguments += [f"ptr {out}", f"i64 {k.count}"]
        if plan.inline:
            arguments += self._place(row, column)
        suffix = f"tile_{shape.rows}x{shape.vectors}" + (f"r{shape.remainder}" if shape.remainder else "")
        self._call(suffix, lambda n: emit_tile(n, shape, self.kernel, inline=plan.inline), arguments)
        if plan.partial and not plan.blocked:
            self._epilogue(("%scratch", plan.partial_stride), rows, row, column, self._columns(shape))

    def _initial(self, c: str, out: str, k: _KBlock) -> list[str]:
        """Where a tile's sums begin: initial values or zeros in the first block of k, what was held in later ones."""
        plan, spec, f = self.plan, self.spec, self.f
        begin, begin_stride = (c, spec.c_row_stride) if self.initial else (self.zero if plan.blocked else c, 0)
        if k.first == "true":
            return [f"ptr {begin}", f"i64 {begin_stride}"]
        if k.first == "false":
            return [f"ptr {out}", f"i64 {self.kernel.out_stride}"]
        pointer = f.emit(f"select i1 {k.first}, ptr {begin}, ptr {out}")
        stride = f.emit(f"select i1 {k.first}, i64 {begin_stride}, i64 {self.kernel.out_stride}")
        return [f"ptr {pointer}", f"i64 {stride}"]

    def _columns(self, shape: TileShape) -> str:
        """Columns of C that a tile covers."""
        return str(shape.vectors * self.plan.lanes - (self.plan.lanes - shape.remainder if shape.remainder else 0))

    def _panel_pointer(self) -> str:
        return self._scratch(self.plan.partial_bytes)

    def _b_pointer(self, column: str, k: _KBlock) -> str:
        return advance(self.f, self.b, self.dtype, (column, self.spec.b_col_stride), (k.start, self.spec.k[0][2]))

    def _pack(self, shape: TileShape, column: str, k: _KBlock) -> None:
        """Copy one block of a panel of B."""
        spec, width = self.spec, self._width()
        *outer, (extent, _, stride) = spec.k
        loops: list[tuple[int | str, int]] = [(e, s) for e, _, s in outer]
        if loops:
            loops[0] = (k.count, loops[0][1])
        depth = str(extent) if loops else k.count

        def run(src: str, dst: str) -> None:
            write = {"copy": self._pack_copy, "transpose": self._pack_transpose, "move": self._pack_move}
            write[self.plan.pack](shape, src, depth, dst, stride)

        self._nested(loops, extent * width, self._b_pointer(column, k), self._panel_pointer(), run)

    def _pack_copy(self, shape: TileShape, src: str, depth: str, dst: str, stride: int) -> None:
        suffix = f"copy_{shape.vectors}" + (f"r{shape.remainder}" if shape.remainder else "")
        width = self._width()
        self._call(
            suffix,
            lambda n: emit_copy(n, shape, self.kernel, stride=stride, width=width),
            [f"ptr {src}", f"i64 {depth}", f"ptr {dst}"],
        )

    def _pack_move(self, shape: TileShape, src: str, depth: str, dst: str, stride: int) -> None:
        arguments = [f"ptr {src}", f"i64 {stride}", f"i64 {self.spec.b_col_stride}", f"i64 {depth}"]
        arguments += [f"i64 {self._columns(shape)}", f"ptr {dst}", f"i64 {self._width()}"]
        self._call_shared("move", lambda n: emit_move(n, self.dtype), arguments)

    def _pack_transpose(self, shape: TileShape, src: str, depth: str, dst: str, _stride: int) -> None:
        lanes, b_stride = self.plan.lanes, self.spec.b_col_stride

        def strip(v: str, columns: int) -> None:
            source = advance(self.f, src, self.dtype, (v, lanes * b_stride))
            target = advance(self.f, dst, self.dtype, (v, lanes))
            self._transpose((source, b_stride), columns, depth, (target, self._width()))

        full = shape.vectors - bool(shape.remainder)
        counted(self.f, full, "strip", lambda v: strip(v, lanes))
        if shape.remainder:
            strip(str(full), shape.remainder)

    def _transpose(self, source: tuple[str, int], columns: int, depth: str, target: tuple[str, int]) -> None:
        """Transpose strips of up to `lanes` columns from `source` to `target` (pointer, stride)."""
        arguments = [f"ptr {source[0]}", f"i64 {source[1]}", f"i64 {columns}", f"i64 {depth}"]
        arguments += [f"ptr {target[0]}", f"i64 {target[1]}"]
        lanes, features = self.plan.lanes, self.kernel.features
        self._call_shared("transpose", lambda n: emit_transpose(n, self.dtype, lanes, features), arguments)


def _plus(f: Function, x: str, y: int) -> str:
    if not y:
        return x
    return str(int(x) + y) if not x.startswith("%") else f.emit(f"add i64 {x}, {y}")
