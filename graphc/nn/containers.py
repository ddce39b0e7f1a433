"""Modules that hold modules: Sequential, ModuleList. Layer 6."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from graphc.errors import StructureError, message
from graphc.frontend.source import user_location
from graphc.nn.module import Module, as_module

__all__ = ["ModuleList", "Sequential"]


class _Numbered(Module):
    """Submodules in order, named "0", "1", ... (or otherwise, for a Sequential of a dict)."""

    def _items(self) -> list[tuple[str, Module]]:
        # Compiled modules as they are: their calls are what is wanted here.
        return [(name, value) for name, value in self.__dict__.items() if as_module(value) is not None]

    def _modules(self) -> list[Module]:
        return [module for _, module in self._items()]

    def append(self, module: Module) -> Any:
        """Add a module at the end; returns the container."""
        if as_module(module) is None:
            raise StructureError(
                message(
                    f"a {type(self).__name__} holds modules, not a {type(module).__name__}",
                    location=user_location(),
                    hint="Write a small nn.Module for a plain function, as nn.ReLU is one for relu.",
                )
            )
        setattr(self, str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end; returns the container."""
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)._of(self._modules()[index])
        return self._modules()[index]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._items()[index][0], module)

    @classmethod
    def _of(cls, modules: list[Module]) -> Any:
        raise NotImplementedError


class Sequential(_Numbered):
    """Modules one after another: each takes the result of the one before.

    >>> from graphc import nn
    >>> nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=True)
      (1): ReLU()
    )

    Takes modules as arguments, or one dict of named modules.
    """

    def __init__(self, *modules: Any) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.register_module(name, module)
        else:
            self.extend(modules)

    @classmethod
    def _of(cls, modules: list[Module]) -> Any:
        return cls(*modules)

    def forward(self, input: Any) -> Any:
        """The input passed through all modules."""
        for module in self._modules():
            input = module(input)
        return input


class ModuleList(_Numbered):
    """A list whose modules count as submodules."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    @classmethod
    def _of(cls, modules: list[Module]) -> Any:
        return cls(modules)
