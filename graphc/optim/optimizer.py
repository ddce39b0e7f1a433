"""What all optimisers share: groups of parameters, rates and state as Tensors, saving and loading. Layer 6.

All that a step reads or writes is a Tensor that exists before the first step: parameters, moments, step counts, and the
rates, which are float64 scalars. So a compiled training step reads them live and updates them in place, and a rate that
changes between steps does not trace again. What is structure (is there any momentum?) is Python state: when it changes, so
does the optimiser's structure version, and compiled functions trace once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

import numpy as np

from graphc.errors import OptionError, StateError, StructureError, UnknownNameError, message
from graphc.frontend import context
from graphc.frontend.promotion import as_tensor, convert
from graphc.frontend.source import user_location
from graphc.frontend.structure import Tracked
from graphc.frontend.tensor import Tensor
from graphc.frontend.trace import Traced

__all__ = ["Optimizer", "ParamGroup"]

Array = np.ndarray[Any, Any]
Rate = Tensor | tuple[Tensor, ...]


class ParamGroup(MutableMapping[str, Any]):
    """Parameters that share rates; reads and writes like a dict.

    `group["lr"]` is a float (a traced scalar in a traced function), and `group["lr"] = 1e-4` writes the Tensor behind it in
    place. `group["params"]` is the list of parameters.
    """

    __slots__ = ("_optimizer", "_options", "_rates", "_used", "initial_lr", "params", "steps")

    def __init__(self, optimizer: Optimizer, params: list[Tensor], values: Mapping[str, Any]) -> None:
        self._optimizer = optimizer
        self.params = params
        #: The rate before any scheduler changed it, if there is a scheduler.
        self.initial_lr: float | None = None
        #: How many updates each parameter has had: float64[len(params)].
        self.steps = Tensor(np.zeros(len(params), np.float64))
        self._rates: dict[str, Rate] = {}
        self._options: dict[str, bool] = {}
        self._used: dict[str, bool] = {}
        for name, value in values.items():
            self._declare(name, value)

    def _declare(self, name: str, value: Any) -> None:
        if isinstance(value, bool):
            self._options[name] = value
            return
        numbers = self._optimizer.check(name, value)
        tensors = tuple(Tensor(np.array(x, np.float64)) for x in numbers)
        self._rates[name] = tensors if isinstance(value, (tuple, list)) else tensors[0]
        self._used[name] = any(numbers)

    # -- what updates read ----------------------------------------------------------------------------------------------

    def rate(self, name: str) -> Any:
        """The float64 scalar Tensor behind a rate, or the tuple of them."""
        return self._rates[name]

    def uses(self, name: str) -> bool:
        """Whether a rate is not zero, or an option is on; structure, not state."""
        return self._options[name] if name in self._options else self._used[name]

    # -- mapping --------------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        self._optimizer.watch()
        if name == "params":
            return self.params
        if name in self._options:
            return self._options[name]
        if name not in self._rates:
            raise UnknownNameError(
                message(
                    f"a parameter group has no {name!r}",
                    location=user_location(),
                    hint=f"It has {', '.join(self)}.",
                )
            )
        rate = self._rates[name]
        return tuple(_read(t) for t in rate) if isinstance(rate, tuple) else _read(rate)

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params" or name not in self:
            raise StructureError(
                message(
                    f"a parameter group's {name!r} cannot be set",
                    location=user_location(),
                    hint=f"It has {', '.join(n for n in self if n != 'params')}; add parameters with add_param_group.",
                )
            )
        self._optimizer.watch()
        if name in self._options:
            self._restructure(name, self._options, bool(value))
            return
        rate = self._rates[name]
        if isinstance(rate, tuple):
            if len(value) != len(rate):
                raise OptionError(
                    message(
                        f"{name} has {len(rate)} values, not {len(value)}",
                        location=user_location(),
                        hint=f"Give a tuple of {len(rate)}.",
                    )
                )
            for target, number in zip(rate, value, strict=True):
                self._write(name, target, number)
        else:
            self._write(name, rate, value)

    def _write(self, name: str, target: Tensor, value: Any) -> None:
        with context.no_grad():
            if isinstance(value, Tensor):
                if context.trace.get() is None:
                    value = value.item()
                else:
                    self._need(name)
                    target.assign(convert(value, np.float64))
                    return
            (number,) = self._optimizer.check(name, value)
            if name in self._optimizer.optional:
                self._restructure(name, self._used, number != 0)
            target.assign(as_tensor(np.array(number, np.float64)))

    def _need(self, name: str) -> None:
        if name in self._optimizer.optional and not self._used[name]:
            raise StateError(
                message(
                    f"{name} is 0 and is set to a traced value; whether it is used is structure and not known here",
                    location=user_location(),
                    hint=f"Give {name} a value that is not 0 before the function is compiled.",
                )
            )

    def _restructure(self, name: str, table: dict[str, bool], value: bool) -> None:
        if table[name] == value:
            return
        if context.trace.get() is not None:
            raise StateError(
                message(
                    f"{name} is turned {'on' if value else 'off'} while a function is being traced",
                    location=user_location(),
                    hint="That changes what the step computes: set it outside of the compiled function.",
                )
            )
        table[name] = value
        self._optimizer.bump()
        self._optimizer.allocate(self)

    def __delitem__(self, name: str) -> None:
        raise StructureError(
            message(
                f"{name!r} cannot be removed from a parameter group",
                location=user_location(),
                hint="Set it to 0 to turn it off.",
            )
        )

    def __iter__(self) -> Iterator[str]:
        return iter(["params", *self._rates, *self._options])

    def __len__(self) -> int:
        return 1 + len(self._rates) + len(self._options)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={_shown(self._rates[name])}" for name in self._rates)
        options = "".join(f", {name}={value}" for name, value in self._options.items())
        return f"ParamGroup({len(self.params)} parameters, {values}{options})"


def _read(rate: Tensor) -> Any:
    """A rate as a Python float; while tracing, a weakly typed scalar, as a Python float would behave."""
    trace = context.trace.get()
    return rate.item() if trace is None else Traced(trace, trace.value_of(rate), "ndarray", weak=True)


def _shown(rate: Rate) -> str:
    return f"({', '.join(map(_shown, rate))})" if isinstance(rate, tuple) else f"{float(rate._array):g}"


class Optimizer(Tracked):
    """Base class. A subclass gives `defaults` to `__init__` and defines `allocate` and `update`.

    Parameters
    ----------
    params
        Tensors, or dicts with "params" and the rates that differ from the defaults.
    defaults
        Rates (floats or tuples of floats) and options (bools) by name.
    """

    #: Rates that may be absent: zero means that the update has no such term.
    optional: ClassVar[frozenset[str]] = frozenset({"weight_decay"})
    #: Legal values of rates: at least the first number, below the second.
    limits: ClassVar[dict[str, tuple[float, float]]] = {}

    param_groups: list[ParamGroup]
    state: dict[Tensor, dict[str, Tensor]]

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        if context.trace.get() is not None:
            raise StateError(
                message(
                    "an optimiser is created while a function is being traced; its state would start anew in each call",
                    location=user_location(),
                    hint="Create it outside of the compiled function.",
                )
            )
        self.defaults = dict(defaults)
        self.param_groups = []
        self.state = {}
        if not isinstance(params, Iterable):
            raise StructureError(
                message(
                    f"an optimiser takes tensors or groups of them, not a {type(params).__name__}",
                    location=user_location(),
                    hint="Pass model.parameters().",
                )
            )
        given = [params] if isinstance(params, (Tensor, Mapping)) else list(params)
        if not given:
            raise OptionError(
                message(
                    "an optimiser needs parameters, and there are none",
                    location=user_location(),
                    hint="Has the model layers? model.parameters() can be run through once only: make a list of it to "
                    "use it twice.",
                )
            )
        if not any(isinstance(g, Mapping) for g in given):
            given = [{"params": given}]
        for group in given:
            self.add_param_group(group)

    def __setattr__(self, name: str, value: Any) -> None:
        if context.trace.get() is not None:
            raise StateError(
                message(
                    f"attribute {name!r} of a {type(self).__name__} is set while a function is being traced",
                    location=user_location(),
                    hint="It would change once, not once for each call; set it outside, or keep it in a Tensor.",
                )
            )
        object.__setattr__(self, name, value)
        self.bump()

    def watch(self) -> None:
        """Make the trace that runs, if any, depend on this optimiser's structure."""
        trace = context.trace.get()
        if trace is not None:
            trace.watch(self)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with rates of their own; what is not given has the default."""
        if context.trace.get() is not None:
            raise StateError(
                message(
                    "add_param_group() is called while a function is being traced",
                    location=user_location(),
                    hint="Call it outside of the compiled function.",
                )
            )
        if not isinstance(group, Mapping) or "params" not in group:
            raise StructureError(
                message(
                    "a parameter group is a dict with 'params'",
                    location=user_location(),
                    hint="Pass parameters only, or groups only: Adam([{'params': a.parameters(), 'lr': 1e-3}]).",
                )
            )
        unknown = [name for name in group if name != "params" and name not in self.defaults]
        if unknown:
            raise StructureError(
                message(
                    f"{type(self).__name__} has no {', '.join(map(repr, unknown))}",
                    location=user_location(),
                    hint=f"It has {', '.join(self.defaults)}.",
                )
            )
        given = group["params"]
        params = [given] if isinstance(given, Tensor) else list(given)
        self._check_params(params)
        made = ParamGroup(self, params, {**self.defaults, **{k: v for k, v in group.items() if k != "params"}})
        self.check_group(made)
        for p in params:
            self.state[p] = {}
        self.allocate(made)
        self.param_groups.append(made)
        self.bump()

    def _check_params(self, params: Sequence[Any]) -> None:
        known = {id(p) for group in self.param_groups for p in group.params}
        for p in params:
            if not isinstance(p, Tensor) or not p.is_leaf or not p.type.dtype.is_float:
                what = p.type if isinstance(p, Tensor) else type(p).__name__
                raise StructureError(
                    message(
                        "an optimiser updates leaf tensors of floats",
                        operands=[("parameter", what)],
                        location=user_location(),
                        hint="Pass model.parameters(), or tensors made with requires_grad=True, not results computed from "
                        "them.",
                    )
                )
            if id(p) in known:
                raise OptionError(
                    message(
                        "a parameter is given twice",
                        operands=[("parameter", p.type)],
                        location=user_location(),
                        hint="Give each parameter to one group, once.",
                    )
                )
            known.add(id(p))

    def check(self, name: str, value: Any) -> tuple[float, ...]:
        """The numbers of a rate; ValueError if one is out of its limits."""
        given = value if isinstance(value, (tuple, list)) else (value,)
        low, high = self.limits.get(name, (0.0, math.inf))
        for x in given:
            if not isinstance(x, (int, float, np.number)) or not low <= x < high:
                limit = f"{low:g} <= {name} < {high:g}" if high < math.inf else f"{name} >= {low:g} and finite"
                raise OptionError(
                    message(
                        f"{type(self).__name__}: {name} cannot be {x!r}",
                        location=user_location(),
                        hint=f"It is a number with {limit}.",
                    )
                )
        return tuple(float(x) for x in given)

    def check_group(self, group: ParamGroup) -> None:
        """Refuse rates that do not go together."""

    def allocate(self, group: ParamGroup) -> None:
        """Make the state that the group's rates need, where it is missing."""
        raise NotImplementedError

    def update(self, group: ParamGroup, present: list[tuple[int, Tensor, Tensor]]) -> None:
        """Update parameters: (position in the group, parameter, gradient) of those that have a gradient."""
        raise NotImplementedError

    def initial(self, group: ParamGroup, name: str) -> float:
        """What a state is filled with before a parameter's first update."""
        return 0.0

    def _buffer(self, group: ParamGroup, p: Tensor, name: str, scalar: bool = False) -> None:
        """A state of the parameter's shape and dtype, or a float64 scalar."""
        if name not in self.state[p]:
            shape, dtype = ((), np.dtype(np.float64)) if scalar else (p.shape, p.dtype)
            self.state[p][name] = Tensor(np.full(shape, self.initial(group, name), dtype))

    # -- use ------------------------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients: to None, or to zeros where there are any."""
        self.watch()
        for group in self.param_groups:
            for p in group.params:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad = as_tensor(np.zeros(p.shape, p.dtype))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient, in place.

        Parameters
        ----------
        closure
            Called first, with recording on; its result is returned.
        """
        self.watch()
        loss = None
        if closure is not None:
            with context.enable_grad():
                loss = closure()
        with context.no_grad():
            for group in self.param_groups:
                gradients = [(i, p, p.grad) for i, p in enumerate(group.params)]
                present = [(i, p, g) for i, p, g in gradients if g is not None]
                if present:
                    self.update(group, present)
        return loss

    def _count(self, group: ParamGroup, present: list[tuple[int, Tensor, Tensor]]) -> Any:
        """Count this update; how many each parameter has had, this one included."""
        one: Any = 1.0
        if len(present) < len(group.params):
            one = np.zeros(len(group.params))
            one[[i for i, _, _ in present]] = 1.0
        steps: Any = group.steps
        counted = steps + one
        group.steps.assign(counted)
        return counted

    # -- saving and loading ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Copies of all state as NumPy arrays and numbers: {"state": {parameter number: {...}}, "param_groups": [...]}."""
        state: dict[int, dict[str, Any]] = {}
        groups = []
        for group in self.param_groups:
            first = len(state)
            for i, p in enumerate(group.params):
                arrays = {name: np.array(t.numpy()) for name, t in self.state[p].items()}
                state[first + i] = {"step": float(group.steps.numpy()[i]), **arrays}
            numbers = list(range(first, first + len(group.params)))
            groups.append({**{name: group[name] for name in group if name != "params"}, "params": numbers})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict()` gave, in place; all is checked before anything is written.

        Raises
        ------
        StateError
            Listing what does not fit.
        """
        if context.trace.get() is not None:
            raise StateError(
                message(
                    "load_state_dict() is called while a function is being traced",
                    location=user_location(),
                    hint="Load outside of the compiled function.",
                )
            )
        groups, state = state_dict["param_groups"], state_dict["state"]
        faults = self._faults(groups, state)
        if faults:
            text = f"the state does not fit this {type(self).__name__}:\n" + "\n".join(f"  {f}" for f in faults)
            raise StateError(
                message(
                    text,
                    location=user_location(),
                    hint="Make the optimiser with the parameters and groups that it was saved with.",
                )
            )
        for group, saved in zip(self.param_groups, groups, strict=True):
            for name in group:
                if name != "params" and name in saved:
                    group[name] = saved[name]
            entries = [state.get(number, {}) for number in saved["params"]]
            group.steps.assign(Tensor(np.array([entry.get("step", 0.0) for entry in entries], np.float64)))
            for p, entry in zip(group.params, entries, strict=True):
                for name, tensor in self.state[p].items():
                    value = entry[name] if name in entry else np.full(tensor.shape, self.initial(group, name))
                    tensor.assign(Tensor(np.asarray(value, tensor.dtype)))

    def _faults(self, groups: Sequence[Mapping[str, Any]], state: Mapping[int, Mapping[str, Any]]) -> list[str]:
        if [len(g["params"]) for g in groups] != [len(g.params) for g in self.param_groups]:
            return [
                f"groups of {[len(g['params']) for g in groups]} parameters, "
                f"the optimiser has groups of {[len(g.params) for g in self.param_groups]}"
            ]
        faults = []
        for group, saved in zip(self.param_groups, groups, strict=True):
            faults += [f"unexpected: {name}" for name in saved if name not in group]
            for number, p in zip(saved["params"], group.params, strict=True):
                for name, value in state.get(number, {}).items():
                    own = self.state[p].get(name, p).type
                    if name != "step" and np.shape(value) != own.shape:
                        faults.append(
                            f"shape: {name} of parameter {number} is {own}, the value has {list(np.shape(value))}"
                        )
        return faults

    def __repr__(self) -> str:
        groups = "".join(f"\n  {group!r}" for group in self.param_groups)
        return f"{type(self).__name__}({groups}\n)"
