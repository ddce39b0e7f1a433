"""Writing a compiled call as an importable package. Layer 5.

The package needs Python and NumPy: machine code, weights and a manifest, the graph as text, a copy of the runtime's loader,
and an `__init__.py` that is written here, with a function of the traced function's name and parameters. It holds nothing
pickled. It is written beside its place and renamed, so it is whole or absent.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import keyword
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from graphc.artifact import Artifact, to_bytes
from graphc.errors import ArtifactError, ExportError, message
from graphc.frontend.build import Options, make_artifact
from graphc.frontend.capture import Captured, Output
from graphc.frontend.naming import state_names, tensor_names
from graphc.frontend.pytree import Structure
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import StateSlot
from graphc.hosts import is_local, is_portable
from graphc.ir.graph import Graph
from graphc.ir.location import FileLocation
from graphc.ir.printer import save
from graphc.ir.types import TokenType
from graphc.runtime import exported
from graphc.runtime.loader import loader_sources
from graphc.version import version

__all__ = ["Call", "write_package"]

Tree = list[Any]

_GRAPH = "graph.gir"
_SLOT_KINDS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Call:
    """The call that is exported: its flattened arguments, and the function with what the package says of it. `public` is
    the name of the package's function (None: that of the package)."""

    function: Callable[..., Any]
    name: str
    public: str | None
    signature: inspect.Signature | None
    doc: str
    structure: Structure
    leaves: Sequence[Any]
    keys: Sequence[Hashable]


def write_package(path: str | os.PathLike[str], call: Call, captured: Captured, options: Options) -> Path:
    """Write the package folder `path` for a captured call.

    Raises
    ------
    ExportError
        If the function writes state or arguments, if an argument or a result cannot be described without pickle, or if
        `path` is not a place for a package.
    """
    folder = Path(path).absolute()
    _check_place(folder)
    _check_pure(call, captured)
    plan = _plan(folder.name, call, captured)
    artifact, _ = make_artifact(plan.graph, {}, options)
    _check_portable(call, artifact)
    _write(folder, _files(plan, artifact), plan, artifact)
    return folder


# -- what can be exported ------------------------------------------------------------------------------------------------


def _check_place(folder: Path) -> None:
    name = folder.name
    if not name.isidentifier() or keyword.iskeyword(name):
        raise _error(
            f"{name!r} cannot be imported: the last part of the path is the name of a Python package",
            "Choose a name of letters, digits and underscores.",
        )
    if not folder.parent.is_dir():
        raise _error(f"there is no folder {folder.parent}", "Make it first.")
    if not (folder.exists() or folder.is_symlink()):
        return
    try:
        manifest = exported.read_manifest(folder)
    except ArtifactError as fault:
        raise _error(f"{folder} exists and is not an earlier export: {fault}", "Choose another place.") from None
    ours = {*manifest["files"], exported.MANIFEST}
    others = [p for p in _contents(folder) if p not in ours]
    if others or folder.is_symlink():
        raise _error(
            f"{folder} holds more than the earlier export: {', '.join(sorted(others)[:5]) or 'it is a link'}",
            "Choose another place, or move these files away.",
        )


def _contents(folder: Path) -> Iterator[str]:
    """Files of a folder by relative path; bytecode is left out."""
    for path in folder.rglob("*"):
        if not path.is_dir() and "__pycache__" not in path.parts:
            yield path.relative_to(folder).as_posix()


def _check_pure(call: Call, captured: Captured) -> None:
    """An exported model has no state: writes would be lost."""
    graph = captured.graph
    if captured.mutated:
        arguments = ", ".join(graph.names[index] for _, index in captured.mutated)
        raise _error(
            f"{call.name} writes to its argument {arguments} in place, which an exported model does not do",
            "Copy the argument first, and return the new value.",
        )
    states = state_names(call.function, call.leaves, captured.states)
    written: list[tuple[str, object]] = [
        (name, graph.inputs[slot.index])
        for name, slot in zip(states, captured.states, strict=True)
        if slot.index in captured.writes.values()
    ]
    held = [g.tensor for g in captured.grads if g.tensor is not None]
    names = tensor_names(call.function, call.leaves, held)
    written += [(f"{name}.grad", tensor.type) for name, tensor in zip(names, held, strict=True)]
    written += [
        (f"{graph.names[captured.leaves.index(g.argument)]}.grad", "")
        for g in captured.grads
        if g.argument is not None and g.argument in captured.leaves
    ]
    if written:
        raise ExportError(
            message(
                f"{call.name} writes state, and an exported model keeps none",
                operands=_first_few(written),
                location=user_location(),
                hint="Pass it as an argument and return the new value; export the function that only computes results.",
            )
        )


def _check_portable(call: Call, artifact: Artifact) -> None:
    """A package calls Python functions of NumPy only: others may not be there where it is imported."""
    foreign = [host.function for host in artifact.hosts if not is_portable(host.function)]
    if not foreign:
        return
    local = [name for name in foreign if is_local(name)]
    what = "a closure, which has no name to import" if local else "which an importer may not have"
    raise _error(
        f"{call.name} calls the Python function {(local or foreign)[0]}, {what}",
        "Compute it with graphc's functions, or outside of the exported function.",
    )


def _first_few(operands: Sequence[tuple[str, object]], limit: int = 8) -> list[tuple[str, object]]:
    distinct = list(dict(operands).items())
    more = len(distinct) - limit
    return [*distinct[:limit], *([("and", f"{more} more")] if more > 0 else [])]


def _error(what: str, hint: str) -> ExportError:
    return ExportError(message(what, location=user_location(), hint=hint))


# -- the plan --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter of the exported function: its tree in the manifest, its default as source text, and its
    description."""

    parameter: inspect.Parameter
    tree: Tree
    default: str | None
    text: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """All that the package says: `weights` are read-only state and returned arrays, `state` names the state among them."""

    function: str
    doc: str
    graph: Graph
    parameters: tuple[_Parameter, ...]
    result: Tree
    weights: Mapping[str, np.ndarray[Any, Any]]
    state: tuple[str, ...]


def _plan(package: str, call: Call, captured: Captured) -> _Plan:
    trees = _ArgumentTrees(call, captured)
    states = state_names(call.function, call.leaves, captured.states)
    weights = {name: _state_array(slot) for name, slot in zip(states, captured.states, strict=True)}
    result = _ResultTree(call, captured, weights).tree(captured.structure, iter(captured.outputs))
    names = (*(trees.names[i] for i in range(len(captured.leaves))), *states)
    count = len(captured.graph.outputs) if captured.backward is None else captured.backward.first_residual
    tokens = [v for v in captured.graph.outputs[count:] if isinstance(v.type, TokenType)]
    graph = replace(
        captured.graph,
        outputs=(*captured.graph.outputs[:count], *tokens),
        names=names,
        locations=_without_folders(captured.graph),
    )
    public = call.public or ""
    if not public.isidentifier() or keyword.iskeyword(public):  # a lambda, a module
        public = package
    return _Plan(public, inspect.cleandoc(call.doc), graph, tuple(trees.parameters), result, weights, tuple(states))


def _without_folders(graph: Graph) -> dict[Any, tuple[FileLocation, ...]]:
    """The table of lines with file names only: an exported model does not tell where it was made."""
    return {
        node: tuple(FileLocation(os.path.basename(w.file), w.line, w.function) for w in where)
        for node, where in graph.locations.items()
    }


def _state_array(slot: StateSlot) -> np.ndarray[Any, Any]:
    tensor = slot.tensor
    if not slot.grad:
        return np.ascontiguousarray(tensor._array).reshape(tensor.shape)
    if tensor._grad is None:  # the exact additive identity, as in a compiled call
        return np.full(tensor.shape, -0.0, dtype=tensor.dtype)
    return np.ascontiguousarray(tensor._grad._array).reshape(tensor.shape)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A part of the arguments: its structure and the number of its first leaf."""

    structure: Structure
    first: int


class _ArgumentTrees:
    """The parameters of a call as trees, and the names of its traced leaves by input."""

    def __init__(self, call: Call, captured: Captured) -> None:
        self._call = call
        self._inputs = {leaf: index for index, leaf in enumerate(captured.leaves)}
        self._types = captured.graph.inputs
        self.names: dict[int, str] = {}
        self.parameters: list[_Parameter] = []
        signature, bound = _bound(call)
        optional = False
        for parameter in signature.parameters.values():
            tree, default, text = self._parameter(parameter, bound.get(parameter.name))
            if parameter.kind in _SLOT_KINDS:
                default = None
            elif default is None and optional and parameter.kind is not parameter.KEYWORD_ONLY:
                default = "_graphc_model.required"
            optional = optional or (default is not None and parameter.kind is not parameter.KEYWORD_ONLY)
            self.parameters.append(_Parameter(parameter, tree, default, text))

    def _parameter(self, parameter: inspect.Parameter, given: Any) -> tuple[Tree, str | None, str]:
        """Tree, default and description of a parameter."""
        name = parameter.name
        if parameter.kind is parameter.VAR_POSITIONAL:
            children = [self._tree(p.structure, p.first, f"{name}[{i}]") for i, p in enumerate(given or ())]
            return ["tuple", children], None, f"{len(children)} values"
        if parameter.kind is parameter.VAR_KEYWORD:
            pairs = sorted((given or {}).items())
            trees = [self._tree(p.structure, p.first, f"{name}[{k!r}]") for k, p in pairs]
            return ["dict", [repr(k) for k, _ in pairs], trees], None, ", ".join(k for k, _ in pairs) or "no values"
        if given is None:
            return _fixed(parameter.default)
        if given.structure.kind == "leaf" and given.first not in self._inputs:
            return _fixed(self._call.leaves[given.first])
        tree = self._tree(given.structure, given.first, name)
        default = repr(parameter.default) if tree[0] == "float" and _is_literal(parameter.default) else None
        return tree, default, self._text(tree)

    def _tree(self, structure: Structure, first: int, where: str) -> Tree:
        if structure.kind == "leaf":
            return self._leaf(first, where)
        children = []
        for step, child in zip(_steps(structure), structure.children, strict=True):
            children.append(self._tree(child, first, where + step))
            first += child.count
        return _container(structure, children, where)

    def _leaf(self, number: int, where: str) -> Tree:
        index = self._inputs.get(number)
        if index is not None:
            self.names[index] = where
            key: Any = self._call.keys[number]
            return ["float" if key[0] == "float" else "array", index]
        value = self._call.leaves[number]
        if not _is_literal(value):
            raise _error(
                f"{where} is a {type(value).__name__} inside a container; an export cannot describe it",
                "Pass it as an argument of its own; then it becomes part of the exported code.",
            )
        return ["static", repr(value)]

    def _text(self, tree: Tree) -> str:
        return _tree_text(tree, lambda kind, index: "float" if kind == "float" else str(self._types[index]))


def _bound(call: Call) -> tuple[inspect.Signature, dict[str, Any]]:
    """The signature, and the call's parts by parameter."""
    positional, named = call.structure.children
    placed: list[_Placed] = []
    first = 0
    for child in (*positional.children, *named.children):
        placed.append(_Placed(child, first))
        first += child.count
    args = placed[: len(positional.children)]
    kwargs = dict(zip(named.data, placed[len(args) :], strict=True))
    signature = call.signature
    if signature is None:
        kind = inspect.Parameter.POSITIONAL_ONLY
        positionals = [inspect.Parameter(f"x{i}", kind) for i in range(len(args))]
        keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in kwargs]
        signature = inspect.Signature([*positionals, *keywords])
    return signature, dict(signature.bind(*args, **kwargs).arguments)


def _fixed(value: Any) -> tuple[Tree, str, str]:
    """A parameter whose value is part of the exported code."""
    if _is_literal(value):
        return ["static", repr(value)], repr(value), f"fixed to {value!r}"
    text = f"<{getattr(value, '__name__', None) or type(value).__name__}, part of the code>"
    return ["baked", text], "", f"fixed: {text}"


def _is_literal(value: Any) -> bool:
    """Whether `repr` says all of a value, so that it can be read back."""
    text = repr(value)
    try:
        again = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return type(again) is type(value) and repr(again) == text


def _steps(structure: Structure) -> list[str]:
    """The way from a container to each child, in the user's notation."""
    kind = structure.kind
    if issubclass(kind, dict):
        return [f"[{key!r}]" for key in structure.data]
    fields = _fields(structure)
    return [f"[{i}]" for i in range(len(structure.children))] if fields is None else [f".{f}" for f in fields]


def _fields(structure: Structure) -> tuple[str, ...] | None:
    """Field names of a named tuple or a dataclass."""
    kind = structure.kind
    if issubclass(kind, tuple):
        return getattr(kind, "_fields", None)
    return None if issubclass(kind, (list, dict)) else structure.data


def _container(structure: Structure, children: list[Tree], where: str) -> Tree:
    kind, fields = structure.kind, _fields(structure)
    if fields is not None:
        return ["fields", "tuple" if issubclass(kind, tuple) else "dict", list(fields), children]
    if not issubclass(kind, dict):
        return ["tuple" if issubclass(kind, tuple) else "list", children]
    for key in structure.data:
        if not _is_literal(key):
            raise _error(f"the key {key!r} of {where} cannot be written down", "Use strings or numbers as keys.")
    return ["dict", [repr(key) for key in structure.data], children]


class _ResultTree:
    """The result of a call as a tree. Returned arrays that are no results of the graph become weights."""

    def __init__(self, call: Call, captured: Captured, weights: dict[str, np.ndarray[Any, Any]]) -> None:
        self._call = call
        self._inputs = {leaf: index for index, leaf in enumerate(captured.leaves)}
        self._weights = weights

    def tree(self, structure: Structure, outputs: Iterator[Output]) -> Tree:
        if structure.kind == "leaf":
            return self._leaf(next(outputs))
        children = [self.tree(child, outputs) for child in structure.children]
        return _container(structure, children, "the result")

    def _leaf(self, output: Output) -> Tree:
        if output.index is not None:
            return ["result", output.index]
        if output.argument is not None:
            return ["argument", self._inputs[output.argument]]
        value = output.value
        if isinstance(value, (Tensor, np.ndarray, np.generic)):
            array = value._array if isinstance(value, Tensor) else np.asarray(value)
            name = f"result{len(self._weights)}"
            self._weights[name] = np.ascontiguousarray(array).reshape(array.shape)
            return ["weight", name]
        if not _is_literal(value):
            raise _error(
                f"{self._call.name} returns a {type(value).__name__}, which an exported model cannot",
                "Return arrays, numbers, strings and containers of these.",
            )
        return ["static", repr(value)]


def _tree_text(tree: Tree, leaf: Callable[[str, Any], str]) -> str:
    """A tree in words: `{'w': f32[3], 'b': f32[]}`."""
    kind, *rest = tree
    if kind in ("static", "baked"):
        return str(rest[0])
    if kind not in ("list", "tuple", "dict", "fields"):
        return leaf(kind, rest[0])
    children = [_tree_text(child, leaf) for child in rest[-1]]
    if kind == "list":
        return f"[{', '.join(children)}]"
    if kind == "tuple":
        return f"({', '.join(children)}{',' if len(children) == 1 else ''})"
    if kind == "dict":
        return "{" + ", ".join(f"{k}: {c}" for k, c in zip(rest[0], children, strict=True)) + "}"
    return "(" + ", ".join(f"{f}={c}" for f, c in zip(rest[1], children, strict=True)) + ")"


# -- files -----------------------------------------------------------------------------------------------------------------


def _files(plan: _Plan, artifact: Artifact) -> dict[str, bytes]:
    """All files but the graph, whose printer writes for itself."""
    files = {f"_loader/{name}": text.encode() for name, text in loader_sources().items()}
    files["__init__.py"] = _module_text(plan, artifact).encode()
    files[exported.ARTIFACT] = to_bytes(artifact)
    if plan.weights:
        files[exported.WEIGHTS] = _npz(plan.weights)
    return files


def _npz(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """The arrays as an .npz file without pickle; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def _manifest(plan: _Plan, artifact: Artifact, files: Mapping[str, bytes], others: Sequence[str]) -> str:
    weights = files.get(exported.WEIGHTS)
    return exported.seal(
        {
            "format": exported.FORMAT,
            "graphc": version(),
            "name": plan.function,
            "isa": artifact.isa,
            "parameters": [[p.parameter.name, p.tree] for p in plan.parameters],
            "arguments": len(plan.graph.inputs) - len(plan.state),
            "state": list(plan.state),
            "result": plan.result,
            "weights": None if weights is None else exported.digest(weights),
            "files": sorted([*files, *others]),
        }
    )


def _write(folder: Path, files: Mapping[str, bytes], plan: _Plan, artifact: Artifact) -> None:
    """Write beside the place and rename; an earlier export is moved aside until the new one is there."""
    token = f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary = folder.with_name(f".{folder.name}.new-{token}")
    old = folder.with_name(f".{folder.name}.old-{token}")
    try:
        for name, content in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_bytes(content)
        save(plan.graph, temporary / _GRAPH)
        others = [p for p in _contents(temporary) if p not in files]
        manifest = _manifest(plan, artifact, files, others)
        (temporary / exported.MANIFEST).write_text(manifest, encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
    except OSError as fault:
        if old.exists() and not folder.exists():
            with contextlib.suppress(OSError):
                old.rename(folder)
        raise _error(f"cannot write {folder}: {fault}", "Choose a place that can be written to.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)


# -- the module ------------------------------------------------------------------------------------------------------------


def _module_text(plan: _Plan, artifact: Artifact) -> str:
    interface = "\n".join(_interface(plan))
    head = (
        f"{plan.function}: a compiled function, exported by graphc {version()} for {artifact.isa} on Linux.\n\n"
        f"{interface}\n\n"
        "It needs NumPy only. Arrays may have any memory layout; dtypes and shapes must be these. Results are NumPy arrays;\n"
        f"named tuples come back as tuples, dataclasses as dicts. The graph is in {_GRAPH}."
    )
    names = ", ".join(p.parameter.name for p in plan.parameters)
    doc = "\n\n".join(filter(None, [plan.doc, f"As exported:\n\n{interface}"]))
    return "\n".join(
        [
            _docstring(head, ""),
            "",
            "from ._loader.runtime.exported import Model as _GraphcModel",
            "",
            f"__all__ = [{json.dumps(plan.function)}]",
            "",
            "_graphc_model = _GraphcModel(__path__[0])",
            "",
            "",
            f"def {plan.function}{_signature_text(plan.parameters)}:",
            _docstring(doc, "    "),
            f"    return _graphc_model({names})",
            "",
        ]
    )


def _interface(plan: _Plan) -> list[str]:
    outputs = plan.graph.outputs
    arguments = plan.graph.inputs

    def leaf(kind: str, which: Any) -> str:
        if kind == "result":
            return str(outputs[which].type)
        return str(arguments[which]) if kind == "argument" else f"array{list(plan.weights[which].shape)}"

    lines = [f"    {p.parameter.name}: {p.text}" for p in plan.parameters]
    return [*lines, f"    returns {_tree_text(plan.result, leaf)}"]


def _docstring(text: str, indent: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    lines = [f"{indent}{line}".rstrip() for line in f'"""{escaped}'.splitlines()]
    closing = [f'{indent}"""'] if len(lines) > 1 or escaped.endswith('"') else []
    return "\n".join([*lines, *closing] if closing else [f'{lines[0]}"""'])


class _Text:
    """A default whose `repr` is the text that is wanted in a signature."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _signature_text(parameters: Sequence[_Parameter]) -> str:
    shown = []
    for p in parameters:
        default: Any = inspect.Parameter.empty
        if p.tree[0] == "baked":
            default = _Text(f"_graphc_model.baked({p.parameter.name!r})")
        elif p.default is not None:
            default = _Text(p.default)
        shown.append(p.parameter.replace(annotation=inspect.Parameter.empty, default=default))
    return str(inspect.Signature(shown))
