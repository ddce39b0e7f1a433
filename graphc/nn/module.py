"""`Parameter` and `Module`: models as trees of Python objects. Layer 6.

Parameters, buffers and submodules are ordinary attributes; a module finds them by looking. Names and meanings are PyTorch's.

What a trace reads of a module must not go stale. So every attribute read while tracing makes the trace watch the module, and
every attribute set afterwards moves the module's structure version, which compiled functions check at each call. Setting
an attribute *inside* a traced function either writes into the tensor that is there (state, updated in place by each
call) or is an error; a Python object cannot change once for each call of native code.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar
from weakref import ref

import numpy as np

from graphc.errors import (
    DTypeError,
    MissingMethodError,
    StateError,
    StructureError,
    UnknownAttributeError,
    message,
)
from graphc.frontend import context
from graphc.frontend.compile import CompiledModule
from graphc.frontend.promotion import as_tensor
from graphc.frontend.source import user_location
from graphc.frontend.structure import Tracked, bump_global
from graphc.frontend.tensor import Tensor, native_array

__all__ = ["HookHandle", "LoadResult", "Module", "Parameter", "as_module"]

Array = np.ndarray[Any, Any]
M = TypeVar("M", bound="Module")

_MISSING = object()
_SCALARS = (bool, int, float, complex, str)
_current_trace = context.trace.get


class Parameter(Tensor):
    """A Tensor that a module's `parameters()` lists, and that optimisers update.

    Parameters
    ----------
    data
        Values; they are copied. Python floats become the default dtype.
    requires_grad
        Whether gradients are recorded.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, dtype: Any = None) -> None:
        if _current_trace() is not None:
            raise StateError(
                message(
                    "a parameter is created while a function is being traced; it would be a new one for each compilation",
                    location=user_location(),
                    hint="Create modules and parameters outside of the compiled function.",
                )
            )
        super().__init__(native_array(data, dtype, copy=True), requires_grad=requires_grad)

    def __repr__(self) -> str:
        return super().__repr__().replace("Tensor(", "Parameter(", 1)


class LoadResult(NamedTuple):
    """What `load_state_dict(..., strict=False)` did not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class HookHandle(NamedTuple):
    """A hook that was registered."""

    module: Any
    when: str
    key: int

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        hooks = self.module.__dict__.get("_hooks", {}).get(self.when, {})
        if hooks.pop(self.key, None) is not None:
            self.module.bump()


class Module(Tracked):
    """Base class of models and layers. Subclasses define `forward`.

    >>> from graphc import nn
    >>> class Residual(nn.Module):
    ...     def __init__(self, size):
    ...         self.inner = nn.Linear(size, size)
    ...
    ...     def forward(self, x):
    ...         return x + self.inner(x)
    >>> [name for name, _ in Residual(3).named_parameters()]
    ['inner.weight', 'inner.bias']
    """

    training: bool
    _buffers: dict[str, bool]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        # Here and not in __init__, so that attributes can be set before super().__init__(), or without it.
        module = super().__new__(cls)
        module.__dict__.update(training=True, _buffers={})
        trace = _current_trace()
        if trace is not None:
            module.__dict__["_birth"] = ref(trace)
        return module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _watch(self)
        convert = context.converter.get()
        forward = self.forward if convert is None else convert(self.forward)
        hooks = self.__dict__.get("_hooks")
        return forward(*args, **kwargs) if hooks is None else _hooked(self, forward, hooks, args, kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result."""
        raise MissingMethodError(
            message(
                f"{type(self).__name__} has no forward method",
                location=user_location(),
                hint=f"Define `def forward(self, ...)` in class {type(self).__name__}.",
            )
        )

    def register_forward_pre_hook(self, hook: Callable[[Any, tuple[Any, ...]], Any]) -> HookHandle:
        """Call `hook(module, args)` before each `forward`; what it returns, if not None, takes the place of the arguments (a
        tuple, or one value). Hooks are traced with the module."""
        return _add_hook(self, "before", hook)

    def register_forward_hook(self, hook: Callable[[Any, tuple[Any, ...], Any], Any]) -> HookHandle:
        """Call `hook(module, args, output)` after each `forward`; what it returns, if not None, takes the place of the output.

        >>> from graphc import nn
        >>> layer = nn.ReLU()
        >>> handle = layer.register_forward_hook(lambda module, args, output: output + 1.0)
        >>> layer([-2.0, 2.0]).tolist()
        [1.0, 3.0]
        >>> handle.remove()
        >>> layer([-2.0, 2.0]).tolist()
        [0.0, 2.0]
        """
        return _add_hook(self, "after", hook)

    # -- attributes -----------------------------------------------------------------------------------------------------

    @property
    def structure_version(self) -> int:
        """Changes whenever an attribute is set or deleted; `train()` and `eval()` lead back to an earlier version, so that
        what was compiled for a mode is valid again when the mode comes back."""
        attributes = self.__dict__
        return 2 * int(attributes.get("_structure_version", 0)) + bool(attributes["training"])

    def __getattribute__(self, name: str) -> Any:
        if _current_trace() is not None and name not in _UNWATCHED:
            _watch(self)
        return object.__getattribute__(self, name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols that Python and libraries look for
            raise AttributeError(name)
        near = get_close_matches(name, [n for n in dir(self) if not n.startswith("_")], n=3)
        raise UnknownAttributeError(
            message(
                f"a {type(self).__name__} has no attribute {name!r}",
                location=user_location(),
                hint=f"Did you mean {', '.join(near)}?" if near else "Set it in __init__.",
            )
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
            return
        old = self.__dict__.get(name, _MISSING)
        if old is value or (type(old) is type(value) and isinstance(value, _SCALARS) and old == value):
            return
        self._check_binding(name, old, value)
        if _current_trace() is not None and not self._is_fresh():
            self._write(name, old, value)
            return
        self.__dict__[name] = value
        if name == "training":
            bump_global()
        else:
            self.bump()

    def __delattr__(self, name: str) -> None:
        if _current_trace() is not None and not self._is_fresh():
            raise self._refuse(name, "is deleted while a function is being traced", "Delete it outside.")
        object.__delattr__(self, name)
        self._buffers.pop(name, None)
        self.bump()

    def _is_fresh(self) -> bool:
        """Whether the module was created in the trace that runs, so that nothing outside can see it."""
        birth = self.__dict__.get("_birth")
        return birth is not None and birth() is _current_trace()

    def _check_binding(self, name: str, old: Any, value: Any) -> None:
        """Refuse to replace a parameter or a buffer by something that is none."""
        if isinstance(old, Parameter) and value is not None and not isinstance(value, Parameter):
            raise self._refuse(
                name,
                f"is a parameter and is set to a {type(value).__name__}",
                "Wrap the value in nn.Parameter, or write it in place: `with gx.no_grad(): p.assign(value)`.",
                StructureError,
            )
        if name in self._buffers and value is not None and not isinstance(value, (Tensor, np.ndarray)):
            raise self._refuse(
                name,
                f"is a buffer and is set to a {type(value).__name__}",
                "Set it to a Tensor.",
                StructureError,
            )
        if isinstance(value, (list, tuple)) and any(
            isinstance(x, Parameter) or as_module(x) is not None for x in value
        ):
            warnings.warn(
                f"{type(self).__name__}.{name} is a plain {type(value).__name__}, so the parameters in it are not those of "
                "the module; use nn.ModuleList or nn.Sequential",
                stacklevel=3,
            )

    def _write(self, name: str, old: Any, value: Any) -> None:
        """`self.name = value` in a traced function: a write into the tensor that is there."""
        if isinstance(old, Tensor) and isinstance(value, (Tensor, np.ndarray, np.generic)):
            new = as_tensor(value)
            if new.type != old.type:
                raise self._refuse(
                    name,
                    "is set to a tensor of another type while a function is being traced",
                    "State keeps its shape and dtype between calls; convert the value, or register a buffer that fits.",
                    operands=[("now", old.type), ("new", new.type)],
                )
            old.assign(new)
        elif isinstance(value, Tensor):
            what = "new" if old is _MISSING else "not a tensor yet"
            raise self._refuse(
                name,
                f"is {what} and is set to a tensor while a function is being traced; it would keep a value of the trace",
                f"Give it its type before: `self.register_buffer({name!r}, gx.zeros(shape))` in __init__.",
                operands=[("value", value.type)],
            )
        else:
            raise self._refuse(
                name,
                f"is set to {value!r} while a function is being traced; it would change once, not once for each call",
                f"Make it state that calls update: `self.register_buffer({name!r}, gx.tensor(0))` in __init__, or set it "
                "outside of the compiled function.",
            )

    def _refuse(
        self,
        name: str,
        what: str,
        hint: str,
        error: type[Exception] = StateError,
        operands: list[tuple[str, object]] | None = None,
    ) -> Exception:
        text = f"attribute {name!r} of a {type(self).__name__} {what}"
        return error(message(text, operands=operands or [], location=user_location(), hint=hint))

    # -- registration ---------------------------------------------------------------------------------------------------

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Set a parameter by name (None: a place for one)."""
        if parameter is not None and not isinstance(parameter, Parameter):
            raise StructureError(
                message(
                    f"{name!r} must be an nn.Parameter, not a {type(parameter).__name__}",
                    location=user_location(),
                    hint="Wrap it: nn.Parameter(x). For state that is not trained use register_buffer.",
                )
            )
        self._check_name(name)
        setattr(self, name, parameter)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Set a Tensor that is state and no parameter: running statistics, counters, hidden state.

        Parameters
        ----------
        tensor
            A Tensor, or an array that is copied into one; None holds the place of one.
        persistent
            Whether it is in `state_dict()`.
        """
        self._check_name(name)
        if tensor is not None and not isinstance(tensor, Tensor):
            tensor = Tensor(native_array(tensor, copy=True))
        self._buffers.pop(name, None)
        setattr(self, name, tensor)
        self._buffers[name] = persistent

    def register_module(self, name: str, module: Module | None) -> None:
        """Set a submodule by name."""
        self._check_name(name)
        setattr(self, name, module)

    add_module = register_module

    def _check_name(self, name: str) -> None:
        if not name or "." in name or hasattr(type(self), name):
            raise StructureError(
                message(
                    f"{name!r} cannot be the name of a parameter, buffer or submodule of a {type(self).__name__}",
                    location=user_location(),
                    hint="Names are not empty, have no dots, and hide no attribute of the class.",
                )
            )

    # -- traversal ------------------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Direct submodules with names, each once."""
        seen: set[int] = set()
        for name, module in _submodules(self):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """Direct submodules, each once."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below with dotted names, each once, parents first."""
        return _walk(self, prefix, once=True)

    def modules(self) -> Iterator[Module]:
        """This module and all below, each once, parents first."""
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Parameters with dotted names, each once."""
        return _unique(self._members(lambda module: module._own_parameters(), prefix, recurse))

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Parameters of this module and of all below, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Buffers with dotted names, each once."""
        return _unique(self._members(lambda module: module._own_buffers(False), prefix, recurse))

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Buffers of this module and of all below, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _own_parameters(self) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in self.__dict__.items() if isinstance(value, Parameter)]

    def _own_buffers(self, persistent_only: bool) -> list[tuple[str, Any]]:
        found = [(name, self.__dict__.get(name)) for name, kept in self._buffers.items() if kept or not persistent_only]
        return [(name, value) for name, value in found if isinstance(value, Tensor)]

    def _members(
        self, own: Callable[[Module], list[tuple[str, Any]]], prefix: str, recurse: bool, once: bool = True
    ) -> Iterator[tuple[str, Any]]:
        modules = _walk(self, prefix, once) if recurse else iter([(prefix, self)])
        for path, module in modules:
            _watch(module)
            for name, value in own(module):
                yield _join(path, name), value

    @contextmanager
    def _swapped(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Other tensors in the places of parameters and buffers, by name, for a while. Attributes are not "set": neither the
        structure version nor what is compiled notices."""
        places = [
            (module, name, old, _join(path, name))
            for path, module in _walk(self, "", once=False)
            for name, old in (*module._own_parameters(), *module._own_buffers(False))
        ]
        new = {id(old): values[full] for _, _, old, full in places if full in values}
        try:
            for module, name, old, _ in places:
                module.__dict__[name] = new.get(id(old), old)
            yield
        finally:
            for module, name, old, _ in places:
                module.__dict__[name] = old

    # -- modes and gradients --------------------------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Set training mode here and below."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self: M) -> M:
        """Set evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Set `requires_grad` of all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters: to None, or to zeros where there are any."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = as_tensor(np.zeros(parameter.shape, parameter.dtype))

    def to(self: M, dtype: Any) -> M:
        """Convert all floating parameters and buffers; shared ones stay shared.

        New tensors take the places of the old, without gradients: make optimisers afterwards.
        """
        if _current_trace() is not None:
            raise self._refuse("to()", "is called while a function is being traced", "Convert the module outside.")
        made: dict[int, Tensor] = {}
        for module in self.modules():
            for name, old in (*module._own_parameters(), *module._own_buffers(False)):
                if old.type.dtype.is_float and old.dtype != np.dtype(dtype):
                    if id(old) not in made:
                        array = old.numpy().astype(dtype)
                        parameter = isinstance(old, Parameter)
                        made[id(old)] = Parameter(array, old.requires_grad) if parameter else Tensor(array)
                    setattr(module, name, made[id(old)])
        return self

    def float(self: M) -> M:
        """Floating parameters and buffers to float32."""
        return self.to(np.float32)

    def double(self: M) -> M:
        """Floating parameters and buffers to float64."""
        return self.to(np.float64)

    def half(self: M) -> M:
        """Floating parameters and buffers to float16."""
        return self.to(np.float16)

    def apply(self: M, function: Callable[[Module], Any]) -> M:
        """Call `function` on each submodule, then on this module."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # -- saving and loading ---------------------------------------------------------------------------------------------

    def state_dict(self, prefix: str = "") -> dict[str, Array]:
        """Copies of all parameters and persistent buffers, by dotted name, as NumPy arrays."""
        return {name: np.array(tensor.numpy()) for name, tensor in self._state(prefix)}

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        def own(module: Module) -> list[tuple[str, Any]]:
            return module._own_parameters() + module._own_buffers(True)

        return self._members(own, prefix, True, once=False)

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Copy values into parameters and buffers, in place, so that optimisers and compiled functions go on with them.

        All is checked before anything is written.

        Parameters
        ----------
        state
            Arrays or Tensors by dotted name, as `state_dict()` gives them.
        strict
            Whether names must match exactly; otherwise the result tells which did not.

        Raises
        ------
        StateError
            Listing all missing and unexpected names and all values that do not fit; also while tracing.
        """
        if _current_trace() is not None:
            raise StateError(
                message(
                    "load_state_dict() is called while a function is being traced; the values would be frozen in its code",
                    location=user_location(),
                    hint="Load outside of the compiled function.",
                )
            )
        if not isinstance(state, Mapping):
            raise StructureError(
                message(
                    f"a state is a dict of arrays by name, not a {type(state).__name__}",
                    location=user_location(),
                    hint="Pass what state_dict() gave.",
                )
            )
        targets = dict(self._state())
        missing = [name for name in targets if name not in state]
        unexpected = [name for name in state if name not in targets]
        arrays: dict[str, Array] = {}
        faults = [f"missing: {name} {targets[name].type}" for name in missing] if strict else []
        faults += [f"unexpected: {name}" for name in unexpected] if strict else []
        for name, target in targets.items():
            if name in state:
                fault = _fitted(name, target, state[name], arrays)
                faults += [fault] if fault else []
        if faults:
            text = f"the state does not fit a {type(self).__name__}:\n" + "\n".join(f"  {fault}" for fault in faults)
            hint = (
                "Pass strict=False to load what is there by name."
                if missing or unexpected
                else "Make the model with the sizes that it was saved with."
            )
            raise StateError(message(text, location=user_location(), hint=hint))
        with context.no_grad():
            for name, array in arrays.items():
                targets[name].assign(Tensor(array))
        return LoadResult(missing, unexpected)

    # -- printing -------------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What `repr` shows in the parentheses: the layer's options."""
        return ""

    def __repr__(self) -> str:
        lines = [
            f"  ({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self.__dict__.items()
            if as_module(child) is not None
        ]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        return "\n".join([f"{type(self).__name__}(", *([f"  {extra}"] if extra else []), *lines, ")"])


def _add_hook(module: Module, when: str, hook: Callable[..., Any]) -> HookHandle:
    if _current_trace() is not None:
        raise module._refuse("hooks", "change while a function is being traced", "Register hooks outside.")
    hooks = module.__dict__.setdefault("_hooks", {}).setdefault(when, {})
    key = 1 + max(hooks, default=-1)
    hooks[key] = hook
    module.bump()
    return HookHandle(module, when, key)


def _hooked(module: Module, forward: Callable[..., Any], hooks: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """`forward` with the hooks before and after it."""
    for hook in list(hooks.get("before", {}).values()):
        given = hook(module, args)
        if given is not None:
            args = given if isinstance(given, tuple) else (given,)
    output = forward(*args, **kwargs)
    for hook in list(hooks.get("after", {}).values()):
        given = hook(module, args, output)
        output = output if given is None else given
    return output


#: Attributes that watching itself reads.
_UNWATCHED = frozenset({"__class__", "__dict__", "_is_fresh", "structure_version"})


def as_module(x: Any) -> Module | None:
    """A module, or the module in a compiled one; None for all else."""
    if isinstance(x, CompiledModule):
        x = x._module
    return x if isinstance(x, Module) else None


def _submodules(module: Module) -> list[tuple[str, Module]]:
    """Direct submodules with names, shared ones more than once."""
    found = [(name, as_module(value)) for name, value in module.__dict__.items()]
    return [(name, inner) for name, inner in found if inner is not None]


def _watch(module: Module) -> None:
    """Make the trace that runs, if any, depend on the module's attributes."""
    trace = _current_trace()
    if trace is not None and not module._is_fresh():
        trace.watch(module)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _walk(root: Module, prefix: str, once: bool) -> Iterator[tuple[str, Module]]:
    """Modules in pre-order; with `once`, shared ones under their first name only."""
    seen: set[int] = set()
    stack = [(prefix, root)]
    while stack:
        path, module = stack.pop()
        if once and id(module) in seen:
            continue
        seen.add(id(module))
        yield path, module
        stack.extend(reversed([(_join(path, name), inner) for name, inner in _submodules(module)]))


def _unique(members: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for name, value in members:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value


def _fitted(name: str, target: Tensor, value: Any, arrays: dict[str, Array]) -> str | None:
    """Put `value` into `arrays` with the dtype of `target`, or say what is wrong with it."""
    try:
        array = native_array(value)
    except DTypeError as error:
        return f"{name}: {str(error).splitlines()[0]}"
    if array.shape != target.shape:
        return f"shape: {name} is {target.type}, the value has shape {list(array.shape)}"
    if not np.can_cast(array.dtype, target.dtype, casting="same_kind"):
        return f"dtype: {name} is {target.type}, the value is {array.dtype}"
    arrays[name] = array.astype(target.dtype)
    return None
