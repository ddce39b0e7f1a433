"""Calling an exported model. Layer 4, runtime.

An exported package holds a manifest (JSON: parameters, their containers, the plan of results), an artifact and weights. A
`Model` checks a call's arguments against the manifest, runs the artifact and puts the results into their containers.
Nothing is unpickled, and every file is checked by digest. This module is copied into exported models.

Trees in the manifest are nested lists: `["array", input]`, `["float", input]`, `["static", text of a literal]`, `["baked",
description]`, `["list", [child, ...]]` and `["tuple", ...]`, `["dict", [text of a key, ...], [child, ...]]`, `["fields", name,
[field, ...], [child, ...]]` for named tuples and dataclasses; in results also `["result", output]`, `["argument", input]` and
`["weight", name]`.
"""

from __future__ import annotations

import ast
import hashlib
import json
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.artifact import Artifact, load
from graphc.dtypes import from_name, stored
from graphc.errors import ArtifactError, GraphcError, StructureError, message
from graphc.runtime.executable import Executable

__all__ = ["ARTIFACT", "FORMAT", "MANIFEST", "WEIGHTS", "Baked", "Model", "digest", "read_manifest", "seal"]

#: The files of an exported package.
MANIFEST, ARTIFACT, WEIGHTS = "model.json", "model.gxa", "weights.npz"
#: Version of the manifest; another version is refused.
FORMAT = "graphc-export-1"

Array = npt.NDArray[Any]
Tree = list[Any]
Collect = Callable[[Any, list[Any]], None]
Build = Callable[[Sequence[Any], Sequence[Array]], Any]


class Baked:
    """Stands for an argument that is part of the exported code (or, as a default, for one that must be given)."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


_REQUIRED = Baked("<required>")


class Model:
    """An exported model. Called with one value for each parameter, in order.

    Parameters
    ----------
    folder
        The package's folder.

    Raises
    ------
    ArtifactError
        If a file is missing or damaged, or this machine cannot run the code.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        manifest = read_manifest(folder)
        artifact = _read_artifact(folder / ARTIFACT)
        self._weights = _read_weights(folder, manifest)
        self._executable = Executable(artifact)
        self.name = folder.name
        self._folder = str(folder)
        try:
            self._read(manifest, artifact)
        except (KeyError, TypeError, ValueError, IndexError) as fault:
            raise _unusable(f"{folder / MANIFEST} is malformed: {type(fault).__name__}: {fault}") from None

    def _read(self, manifest: Mapping[str, Any], artifact: Artifact) -> None:
        inputs = artifact.with_role("input")
        self._baked: dict[str, Baked] = {}
        self._collect = [self._collector(tree, name) for name, tree in manifest["parameters"]]
        self._count = int(manifest["arguments"])
        self._state = [self._weights[name] for name in manifest["state"]]
        if self._count + len(self._state) != len(inputs):
            raise ValueError("arguments and state are not the artifact's inputs")
        for buffer, array in zip(inputs[self._count :], self._state, strict=True):
            if array.dtype != from_name(buffer.dtype).numpy or array.shape != buffer.shape:
                raise ValueError(f"the weight {buffer.name} is {array.dtype}{list(array.shape)}")
        self._expected = [(from_name(b.dtype).numpy, b.shape) for b in inputs[: self._count]]
        self._build = self._builder(manifest["result"], len(artifact.with_role("output")))

    @property
    def required(self) -> Baked:
        """The default of a parameter that has none and follows one that has."""
        return _REQUIRED

    def baked(self, name: str) -> Baked:
        """The default of a parameter that is part of the code."""
        return self._baked[name]

    def __call__(self, *values: Any) -> Any:
        try:
            return self._call(values)
        except GraphcError as error:
            raise _placed(error, self._folder) from None

    def _call(self, values: tuple[Any, ...]) -> Any:
        leaves: list[Any] = [None] * self._count
        for collect, value in zip(self._collect, values, strict=True):
            collect(value, leaves)
        inputs = [_native(leaf) for leaf in leaves]
        for array, (dtype, shape) in zip(inputs, self._expected, strict=True):
            if array.dtype is not dtype or array.shape != shape:
                self._executable.check([*inputs, *self._state])
                break
        inputs += self._state
        return self._build(leaves, self._executable.run(inputs))

    # -- arguments ----------------------------------------------------------------------------------------------------

    def _collector(self, tree: Tree, where: str) -> Collect:
        """A function that takes a value apart into leaves, by input; recursion is over containers."""
        kind, *rest = tree
        if kind in ("array", "float"):
            return _leaf_collector(kind, operator.index(rest[0]), where)
        if kind == "static":
            return _literal_collector(ast.literal_eval(rest[0]), where)
        if kind == "baked":
            self._baked[where] = baked = Baked(rest[0])
            return _baked_collector(baked, where)
        if kind in ("list", "tuple"):
            children = [self._collector(child, f"{where}[{i}]") for i, child in enumerate(rest[0])]
            return _sequence_collector(children, where)
        if kind == "dict":
            keys = [ast.literal_eval(text) for text in rest[0]]
            children = [self._collector(c, f"{where}[{k!r}]") for k, c in zip(keys, rest[1], strict=True)]
            return _dict_collector(keys, children, where)
        if kind == "fields":
            children = [self._collector(c, f"{where}.{f}") for f, c in zip(rest[1], rest[2], strict=True)]
            return _fields_collector(rest[0], rest[1], children, where)
        raise ValueError(f"unknown kind {kind!r}")

    # -- results --------------------------------------------------------------------------------------------------------

    def _builder(self, tree: Tree, outputs: int) -> Build:
        """A function that puts results into their containers; recursion is over containers."""
        kind, *rest = tree
        if kind == "result":
            index = range(outputs)[rest[0]]
            return lambda leaves, results: results[index] if results[index].ndim else results[index][()]
        if kind == "argument":
            argument = range(self._count)[rest[0]]
            return lambda leaves, results: leaves[argument]
        if kind == "weight":
            weight = self._weights[rest[0]]
            return lambda leaves, results: weight.copy()
        if kind == "static":
            value = ast.literal_eval(rest[0])
            return lambda leaves, results: value
        children = [self._builder(child, outputs) for child in rest[-1]]
        if kind == "list":
            return lambda leaves, results: [build(leaves, results) for build in children]
        if kind == "tuple" or (kind == "fields" and rest[0] == "tuple"):
            return lambda leaves, results: tuple([build(leaves, results) for build in children])
        if kind in ("dict", "fields"):
            keys = [ast.literal_eval(text) for text in rest[0]] if kind == "dict" else list(rest[1])
            pairs = list(zip(keys, children, strict=True))
            return lambda leaves, results: {key: build(leaves, results) for key, build in pairs}
        raise ValueError(f"unknown kind {kind!r}")


# -- files ---------------------------------------------------------------------------------------------------------------


def digest(data: bytes) -> str:
    """The digest by which the manifest knows a file."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def seal(manifest: Mapping[str, Any]) -> str:
    """The manifest as text, with its own digest."""
    body = json.dumps(manifest, sort_keys=True)
    return json.dumps({**manifest, "digest": digest(body.encode())}, indent=1, sort_keys=True) + "\n"


def _unusable(what: str) -> ArtifactError:
    return ArtifactError(message(what, hint="Copy the whole folder again, or export the model anew."))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an exported package.

    Raises
    ------
    ArtifactError
        If there is none, or it is damaged or of another format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise _unusable(f"cannot read {path}: {fault}") from None
    except ValueError as fault:
        raise _unusable(f"{path} is damaged: {fault}") from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise _unusable(f"{path} is not the manifest of an exported model")
    if manifest["format"] != FORMAT:
        raise _unusable(f"{path} has the format {manifest['format']!r}; this loader reads {FORMAT!r}")
    if manifest.pop("digest", None) != digest(json.dumps(manifest, sort_keys=True).encode()):
        raise _unusable(f"{path} is damaged: its digest does not fit its content")
    return manifest


def _read_artifact(path: Path) -> Artifact:
    try:
        return load(path)
    except ArtifactError as fault:
        raise _unusable(str(fault)) from None


def _read_weights(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Array]:
    path = folder / WEIGHTS
    expected = manifest.get("weights")
    if expected is None:
        return {}
    try:
        damaged = digest(path.read_bytes()) != expected
    except OSError as fault:
        raise _unusable(f"cannot read the weights {path}: {fault}") from None
    if damaged:
        raise _unusable(f"{path} is damaged: its digest does not fit its content")
    with np.load(path, allow_pickle=False) as held:
        arrays = {name: stored(held[name]) for name in held.files}
    weights = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    for array in weights.values():
        array.flags.writeable = False
    return weights


# -- leaves ------------------------------------------------------------------------------------------------------------


def _leaf_collector(kind: str, index: int, where: str) -> Collect:
    def collect_array(value: Any, leaves: list[Any]) -> None:
        if not isinstance(value, np.ndarray) and not hasattr(value, "__array__"):
            raise StructureError(f"{where} must be an array, not {_described(value)}")
        leaves[index] = value

    def collect_float(value: Any, leaves: list[Any]) -> None:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise StructureError(f"{where} must be a number, not {_described(value)}")
        leaves[index] = float(value)

    return collect_float if kind == "float" else collect_array


def _literal_collector(expected: Any, where: str) -> Collect:
    def collect(value: Any, leaves: list[Any]) -> None:
        if type(value) is not type(expected) or repr(value) != repr(expected):
            raise StructureError(
                message(
                    f"{where} is {expected!r} in this exported model, and {_described(value)} is given",
                    hint="It was fixed at export; export again with the other value.",
                )
            )

    return collect


def _baked_collector(baked: Baked, where: str) -> Collect:
    def collect(value: Any, leaves: list[Any]) -> None:
        if value is not baked:
            raise StructureError(
                message(f"{where} is part of this exported model ({baked!r})", hint="Leave this argument out.")
            )

    return collect


# -- containers ----------------------------------------------------------------------------------------------------------


def _sequence_collector(children: Sequence[Collect], where: str) -> Collect:
    def collect(value: Any, leaves: list[Any]) -> None:
        if not isinstance(value, (list, tuple)) or len(value) != len(children):
            raise StructureError(f"{where} must be a sequence of {len(children)}, not {_described(value)}")
        for take, item in zip(children, value, strict=True):
            take(item, leaves)

    return collect


def _dict_collector(keys: Sequence[Any], children: Sequence[Collect], where: str) -> Collect:
    def collect(value: Any, leaves: list[Any]) -> None:
        if not isinstance(value, Mapping):
            raise StructureError(f"{where} must be a dict with the keys {_listed(keys)}, not {_described(value)}")
        if len(value) != len(keys) or any(key not in value for key in keys):
            raise StructureError(f"{where} must have the keys {_listed(keys)}, not {_listed(list(value))}")
        for take, key in zip(children, keys, strict=True):
            take(value[key], leaves)

    return collect


def _fields_collector(kind: str, fields: Sequence[str], children: Sequence[Collect], where: str) -> Collect:
    """Named tuples and dataclasses: anything with these attributes, a dict of them, or, for a tuple, a tuple."""
    as_tuple = _sequence_collector(children, where)
    as_dict = _dict_collector(fields, children, where)

    def collect(value: Any, leaves: list[Any]) -> None:
        if kind == "tuple" and type(value) in (list, tuple):
            as_tuple(value, leaves)
        elif isinstance(value, Mapping):
            as_dict(value, leaves)
        elif all(hasattr(value, field) for field in fields):
            for take, field in zip(children, fields, strict=True):
                take(getattr(value, field), leaves)
        else:
            raise StructureError(f"{where} must have the fields {', '.join(fields)}; it is {_described(value)}")

    return collect


def _placed(error: GraphcError, folder: str) -> GraphcError:
    """An error with the user's place, which is the innermost one outside of the package, and the way on."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((folder, __file__)):
        frame = frame.f_back
    text, _, hint = str(error).partition("\n  hint: ")
    hint = hint or "An exported model takes the arguments of its export; export again for other types."
    return type(error)(f"{text}\n  at {frame.f_code.co_filename}:{frame.f_lineno}\n  hint: {hint}")


def _listed(keys: Sequence[Any]) -> str:
    return ", ".join(map(repr, keys)) or "(none)"


def _described(value: Any) -> str:
    """A value in an error message."""
    if value is _REQUIRED:
        return "left out"
    if isinstance(value, (bool, int, float, str, type(None))):
        return repr(value)
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype}{list(value.shape)}"
    size = f" of {len(value)}" if isinstance(value, (list, tuple, Mapping)) else ""
    return f"a {type(value).__name__}{size}"


# -- arrays --------------------------------------------------------------------------------------------------------------


def _native(leaf: Any) -> Array:
    """A leaf as native code takes it: C-contiguous, aligned, native byte order."""
    array = leaf if type(leaf) is np.ndarray else np.asarray(leaf)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    flags = array.flags
    if flags.c_contiguous and flags.aligned:
        return array
    return np.array(array, order="C", copy=True)
