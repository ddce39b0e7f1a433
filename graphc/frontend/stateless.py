"""Modules as functions of their parameters: for ensembles, per-example gradients and meta-learning. Layer 5. Names and meanings
are those of `torch.func`.

Modules are of a higher layer; here they are whatever has `named_parameters`, `named_buffers` and `_swapped`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from graphc.errors import ShapeError, StructureError, message
from graphc.frontend.compile import CompiledModule
from graphc.frontend.promotion import as_tensor, describe
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, native_array

__all__ = ["functional_call", "stack_module_state"]


def functional_call(
    module: Any,
    parameters_and_buffers: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """Call a module with other values for its parameters and buffers, without changing the module.

    Parameters
    ----------
    module
        An `nn.Module`.
    parameters_and_buffers
        Tensors or arrays by dotted name, as `named_parameters()` has them; or several such dicts. What is not named is the
        module's own; a parameter that the module holds under several names is replaced under all of them.
    args
        The positional arguments, a tuple; anything else is the only argument.
    kwargs
        The keyword arguments.

    Raises
    ------
    StructureError
        If the module has no parameter or buffer of a name.
    ShapeError
        If a value has not the shape of what it stands for.

    >>> import numpy as np, graphc as gx
    >>> from graphc import nn
    >>> layer = nn.Linear(2, 1)
    >>> def loss(parameters, x):
    ...     return (gx.functional_call(layer, parameters, (x,)) ** 2).sum()
    >>> parameters = {"weight": gx.tensor([[3.0, 4.0]]), "bias": gx.tensor([0.0])}
    >>> xs = gx.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> gx.vmap(gx.grad(loss), in_axes=(None, 0))(parameters, xs)["weight"]
    Tensor([[[6., 0.]],
    <BLANKLINE>
           [[0., 8.]]], dtype=float32)
    """
    module = _checked(module)
    given = parameters_and_buffers
    values: dict[str, Any] = {}
    for part in (given,) if isinstance(given, Mapping) else given:
        values.update(part)
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    own |= dict(module._state())
    tensors = {name: _fitting(name, value, own, module) for name, value in values.items()}
    with module._swapped(tensors):
        return module(*(args if isinstance(args, tuple) else (args,)), **dict(kwargs or {}))


def _checked(module: Any) -> Any:
    if isinstance(module, CompiledModule):
        module = module._module
    if not hasattr(type(module), "_swapped"):
        raise StructureError(
            message(
                f"functional_call takes an nn.Module first, not a {type(module).__name__}",
                location=user_location(),
                hint="A function takes its parameters as arguments: call it with them.",
            )
        )
    return module


def _fitting(name: str, value: Any, own: Mapping[str, Tensor], module: Any) -> Tensor:
    if name not in own:
        near = get_close_matches(name, own, n=1)
        raise StructureError(
            message(
                f"a {type(module).__name__} has no parameter or buffer {name!r}",
                location=user_location(),
                hint=f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(own) or 'none'}.",
            )
        )
    tensor = as_tensor(value if isinstance(value, Tensor) else native_array(value))
    if tensor.shape != own[name].shape:
        raise ShapeError(
            message(
                f"the value for {name!r} has another shape than the parameter or buffer",
                operands=[(name, own[name].type), ("value", describe(tensor))],
                location=user_location(),
                hint="Values of many models at once go through gx.vmap, which gives the function those of one.",
            )
        )
    return tensor


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters and the buffers of models of one kind, each stacked along a new axis 0: an ensemble for `gx.vmap`.

    Returns
    -------
    `(parameters, buffers)`, new Tensors by dotted name; parameters require gradients as those of the models do.

    Raises
    ------
    StructureError
        If there are no models, or they differ in class, mode, names or shapes.

    >>> import graphc as gx
    >>> from graphc import nn
    >>> models = [nn.Linear(3, 2) for _ in range(5)]
    >>> parameters, buffers = gx.stack_module_state(models)
    >>> run = gx.vmap(lambda p, x: gx.functional_call(models[0], p, (x,)), in_axes=(0, None))
    >>> run(parameters, gx.ones((4, 3))).shape
    (5, 4, 2)
    """
    modules = [_checked(m) for m in models]
    described = [_description(m) for m in modules]
    if not modules or any(d != described[0] for d in described):
        odd = next((k for k, d in enumerate(described) if d != described[0]), 0)
        raise StructureError(
            message(
                "stack_module_state takes models that differ in values only"
                if modules
                else "there are no models to stack",
                operands=[(f"model {k}", described[k][0]) for k in (0, odd)] if modules else [],
                location=user_location(),
                hint="Make them by the same constructor, with the same sizes, all in train() or all in eval() mode.",
            )
        )
    parameters = {
        name: _stacked([dict(m.named_parameters())[name] for m in modules], x.requires_grad)
        for name, x in modules[0].named_parameters()
    }
    buffers = {
        name: _stacked([dict(m.named_buffers())[name] for m in modules], False)
        for name, _ in modules[0].named_buffers()
    }
    return parameters, buffers


def _description(module: Any) -> tuple[str, Any]:
    state = [(name, str(x.type)) for name, x in (*module.named_parameters(), *module.named_buffers())]
    return f"{type(module).__name__}, {'train' if module.training else 'eval'}() mode, {len(state)} tensors", state


def _stacked(tensors: Sequence[Tensor], requires_grad: bool) -> Tensor:
    return Tensor(np.stack([t.numpy() for t in tensors]), requires_grad=requires_grad)
