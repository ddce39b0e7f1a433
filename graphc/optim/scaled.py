"""RMSprop, Adagrad, Adadelta and Lion. Layer 6."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from graphc.frontend.elementwise import FUNCTIONS
from graphc.frontend.promotion import convert
from graphc.frontend.tensor import Tensor
from graphc.optim.adam import pair
from graphc.optim.optimizer import Optimizer, ParamGroup

__all__ = ["Adadelta", "Adagrad", "Lion", "RMSprop"]

_sqrt: Any = FUNCTIONS["sqrt"]
_sign: Any = FUNCTIONS["sign"]

Present = list[tuple[int, Tensor, Tensor]]


def _rate(group: ParamGroup, name: str, p: Tensor) -> Any:
    """A rate in the parameter's dtype."""
    return convert(group.rate(name), p.dtype)


def _mix(value: Tensor, share: Any, new: Any, p: Tensor) -> Any:
    """share * value + (1 - share) * new, with the shares taken in float64."""
    old: Any = value
    return convert(share, p.dtype) * old + convert(1.0 - share, p.dtype) * new


def _decayed(group: ParamGroup, p: Tensor, grad: Any) -> Any:
    """The gradient with that of weight decay."""
    old: Any = p
    return grad + _rate(group, "weight_decay", p) * old if group.uses("weight_decay") else grad


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton 2012; centred: Graves 2013): p -= lr * g / (sqrt(v) + eps), v a mean of g**2.

    v = alpha v + (1 - alpha) g**2; if `centered`, minus the square of the same mean of g. With momentum
    b = momentum * b + g / (sqrt(v) + eps) and p -= lr * b.

    >>> import graphc as gx
    >>> from graphc import optim
    >>> w = gx.tensor([3.0], requires_grad=True)
    >>> optimizer = optim.RMSprop([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 2)
    2.0
    """

    optional: ClassVar[frozenset[str]] = frozenset({"weight_decay", "momentum"})
    limits: ClassVar[dict[str, tuple[float, float]]] = {"alpha": (0.0, 1.0)}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        rates = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {**rates, "centered": bool(centered)})

    def allocate(self, group: ParamGroup) -> None:
        """The mean square of each gradient, its mean if centred, and its momentum."""
        for p in group.params:
            self._buffer(group, p, "square_avg")
            if group.uses("centered"):
                self._buffer(group, p, "grad_avg")
            if group.uses("momentum"):
                self._buffer(group, p, "momentum_buffer")

    def update(self, group: ParamGroup, present: Present) -> None:
        """One step."""
        self._count(group, present)
        for _, p, grad in present:
            old: Any = p
            g = _decayed(group, p, grad)
            moved = g / (self._scale(group, p, g) + _rate(group, "eps", p))
            if group.uses("momentum"):
                buffer: Any = self.state[p]["momentum_buffer"]
                moved = _rate(group, "momentum", p) * buffer + moved
                buffer.assign(moved)
            p.assign(old - _rate(group, "lr", p) * moved)

    def _scale(self, group: ParamGroup, p: Tensor, g: Any) -> Any:
        state, alpha = self.state[p], group.rate("alpha")
        square = _mix(state["square_avg"], alpha, g * g, p)
        state["square_avg"].assign(square)
        if group.uses("centered"):
            mean = _mix(state["grad_avg"], alpha, g, p)
            state["grad_avg"].assign(mean)
            square = square - mean * mean
        return _sqrt(square)


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer, JMLR 2011): p -= lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps).

    s is the sum of all g**2, which starts with `initial_accumulator_value`; t counts the parameter's updates.

    >>> import graphc as gx
    >>> from graphc import optim
    >>> w = gx.tensor([3.0], requires_grad=True)
    >>> optimizer = optim.Adagrad([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.item()
    2.5
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        rates = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, {**rates, "initial_accumulator_value": initial_accumulator_value})

    def allocate(self, group: ParamGroup) -> None:
        """The sum of squares of each gradient."""
        for p in group.params:
            self._buffer(group, p, "sum")

    def initial(self, group: ParamGroup, name: str) -> float:
        """Sums start from the group's `initial_accumulator_value`."""
        return float(group["initial_accumulator_value"])

    def update(self, group: ParamGroup, present: Present) -> None:
        """One step."""
        rates = group.rate("lr") / (1.0 + (self._count(group, present) - 1.0) * group.rate("lr_decay"))
        for i, p, grad in present:
            old: Any = p
            total: Any = self.state[p]["sum"]
            g = _decayed(group, p, grad)
            new = total + g * g
            total.assign(new)
            p.assign(old - convert(rates[i], p.dtype) * g / (_sqrt(new) + _rate(group, "eps", p)))


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012): p -= lr * d with d = sqrt(u + eps) / sqrt(v + eps) * g.

    v is the mean of g**2, u that of d**2 before this step: v = rho v + (1 - rho) g**2, and u likewise afterwards.

    >>> import graphc as gx
    >>> from graphc import optim
    >>> w = gx.tensor([3.0], requires_grad=True)
    >>> optimizer = optim.Adadelta([w], eps=1e-2)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> round(w.item(), 2)
    2.68
    """

    limits: ClassVar[dict[str, tuple[float, float]]] = {"rho": (0.0, 1.0)}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay})

    def allocate(self, group: ParamGroup) -> None:
        """The mean squares of each gradient and of each step."""
        for p in group.params:
            self._buffer(group, p, "square_avg")
            self._buffer(group, p, "acc_delta")

    def update(self, group: ParamGroup, present: Present) -> None:
        """One step."""
        self._count(group, present)
        rho = group.rate("rho")
        for _, p, grad in present:
            old: Any = p
            square: Any = self.state[p]["square_avg"]
            steps: Any = self.state[p]["acc_delta"]
            g, eps = _decayed(group, p, grad), _rate(group, "eps", p)
            new = _mix(square, rho, g * g, p)
            moved: Any = _sqrt(steps + eps) / _sqrt(new + eps) * g
            square.assign(new)
            steps.assign(_mix(steps, rho, moved * moved, p))
            p.assign(old - _rate(group, "lr", p) * moved)


class Lion(Optimizer):
    """Lion (Chen et al., NeurIPS 2023): p -= lr * (sign(beta1 m + (1 - beta1) g) + weight_decay p).

    Then m = beta2 m + (1 - beta2) g. All steps are +-lr: take a rate 3 to 10 times smaller than Adam's.

    >>> import graphc as gx
    >>> from graphc import optim
    >>> w = gx.tensor([3.0], requires_grad=True)
    >>> optimizer = optim.Lion([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w.item()
    2.5
    """

    limits: ClassVar[dict[str, tuple[float, float]]] = {"betas": (0.0, 1.0)}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": pair(betas), "weight_decay": weight_decay})

    def allocate(self, group: ParamGroup) -> None:
        """The moment of each parameter."""
        for p in group.params:
            self._buffer(group, p, "exp_avg")

    def update(self, group: ParamGroup, present: Present) -> None:
        """One step."""
        self._count(group, present)
        beta1, beta2 = group.rate("betas")
        for _, p, grad in present:
            old: Any = p
            moment = self.state[p]["exp_avg"]
            if group.uses("weight_decay"):
                old = old * convert(1.0 - group.rate("lr") * group.rate("weight_decay"), p.dtype)
            new = old - _rate(group, "lr", p) * _sign(_mix(moment, beta1, grad, p))
            moment.assign(_mix(moment, beta2, grad, p))
            p.assign(new)
