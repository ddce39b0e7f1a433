"""Modules: registration, traversal, state_dict, modes, and what may be set while tracing."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc import nn
from graphc.errors import StateError, StructureError


class Block(nn.Module):
    """Parameters, buffers and submodules, set before and without super().__init__()."""

    def __init__(self, size: int = 3) -> None:
        self.scale = nn.Parameter(np.ones(size, np.float32))
        self.register_buffer("mean", np.zeros(size, np.float32))
        self.register_buffer("scratch", gx.zeros(2), persistent=False)
        self.inner = nn.Linear(size, size)
        self.plain = gx.zeros(4)
        super().__init__()

    def forward(self, x: Any) -> Any:
        return self.inner(x) * self.scale


def test_traversal() -> None:
    model = nn.Sequential(Block(), nn.ReLU(), Block())
    names = [name for name, _ in model.named_parameters()]
    assert names == ["0.scale", "0.inner.weight", "0.inner.bias", "2.scale", "2.inner.weight", "2.inner.bias"]
    assert [name for name, _ in model.named_buffers()] == ["0.mean", "0.scratch", "2.mean", "2.scratch"]
    assert [name for name, _ in model.named_modules()] == ["", "0", "0.inner", "1", "2", "2.inner"]
    assert [name for name, _ in model.named_children()] == ["0", "1", "2"]
    assert [name for name, _ in model.named_parameters(recurse=False)] == []
    assert [name for name, _ in model[0].named_parameters("x", recurse=False)] == ["x.scale"]
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in model.parameters())


def test_shared_parameters_are_listed_once_and_saved_under_both_names() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    model = nn.Sequential(a, b, a)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]


def test_repr() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False), nn.ModuleList([nn.GELU("tanh"), nn.Dropout(0.1)]))
    assert repr(model) == "\n".join(
        [
            "Sequential(",
            "  (0): Flatten(start_dim=1, end_dim=-1)",
            "  (1): Linear(in_features=4, out_features=3, bias=False)",
            "  (2): ModuleList(",
            "    (0): GELU(approximate='tanh')",
            "    (1): Dropout(p=0.1)",
            "  )",
            ")",
        ]
    )
    assert repr(nn.Parameter([1.5])) == "Parameter([1.5], dtype=float32, requires_grad=True)"


def test_containers() -> None:
    layers = [nn.Linear(2, 2) for _ in range(3)]
    model = nn.Sequential(*layers)
    assert len(model) == 3 and list(model) == layers and model[-1] is layers[2]
    assert list(model[1:]) == layers[1:] and isinstance(model[1:], nn.Sequential)
    model[1] = nn.ReLU()
    assert isinstance(model[1], nn.ReLU)
    model.append(nn.Tanh()).extend([nn.Sigmoid()])
    assert [name for name, _ in model.named_children()] == list("01234")
    named = nn.Sequential({"first": layers[0], "last": layers[1]})
    assert next(iter(named.state_dict())) == "first.weight"
    with pytest.raises(StructureError, match="holds modules, not a function"):
        nn.Sequential(nn.Linear(2, 2), lambda x: x)


def test_parameters_in_plain_lists_are_pointed_out() -> None:
    class Bad(nn.Module):
        def __init__(self) -> None:
            self.layers = [nn.Linear(2, 2)]

    with pytest.warns(UserWarning, match="ModuleList"):
        Bad()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nn.ReLU().sizes = [1, 2]


def test_state_dict_is_a_copy_and_loads_in_place() -> None:
    model = Block()
    saved = model.state_dict()
    assert list(saved) == ["scale", "mean", "inner.weight", "inner.bias"]
    weight, before = model.inner.weight, saved["inner.weight"].copy()
    with gx.no_grad():
        weight.fill_(7.0)
        model.mean.fill_(3.0)
    assert saved["inner.weight"].tolist() == before.tolist()
    assert model.load_state_dict(saved) == ([], [])
    assert model.inner.weight is weight and weight.tolist() == before.tolist() and model.mean.tolist() == [0, 0, 0]
    other = Block()
    other.load_state_dict({name: gx.tensor(array) for name, array in saved.items()})
    assert other.inner.weight.tolist() == before.tolist()
    other.load_state_dict({name: array.astype(np.float64) for name, array in saved.items()})
    assert other.inner.weight.dtype == np.float32


def test_load_state_dict_lists_all_faults_and_writes_nothing() -> None:
    model = Block()
    before = model.state_dict()
    state = dict(before)
    del state["scale"], state["inner.bias"]
    state.update(extra=np.zeros(1), another=np.zeros(1), **{"inner.weight": np.zeros((2, 3))})
    state["mean"] = np.ones(5, np.float32)
    with pytest.raises(StateError) as caught:
        model.load_state_dict(state)
    text = str(caught.value)
    assert "does not fit a Block" in text and "strict=False" in text
    for line in [
        "missing: scale f32[3]",
        "missing: inner.bias f32[3]",
        "unexpected: extra",
        "unexpected: another",
        "shape: mean is f32[3], the value has shape [5]",
        "shape: inner.weight is f32[3, 3], the value has shape [2, 3]",
    ]:
        assert line in text
    assert all((model.state_dict()[name] == array).all() for name, array in before.items())


def test_load_state_dict_refuses_other_kinds_of_dtype() -> None:
    model = nn.Module()
    model.register_buffer("count", np.zeros(3, np.int32))
    for value, text in [
        (np.ones(3), "dtype: count is i32[3], the value is float64"),
        (np.ones(3, np.clongdouble), "complex256"),
    ]:
        with pytest.raises(StateError) as caught:
            model.load_state_dict({"count": value})
        assert text in str(caught.value)


def test_load_state_dict_without_strict() -> None:
    model = Block()
    missing, unexpected = model.load_state_dict({"scale": np.full(3, 2.0), "extra": 1}, strict=False)
    assert missing == ["mean", "inner.weight", "inner.bias"] and unexpected == ["extra"]
    assert model.scale.tolist() == [2, 2, 2]


def test_train_and_eval() -> None:
    model = nn.Sequential(Block(), nn.Dropout())
    assert model.eval() is model
    assert not any(m.training for m in model.modules())
    model.train()
    assert all(m.training for m in model.modules())


def test_zero_grad_requires_grad_apply() -> None:
    model = Block()
    model(np.ones((2, 3), np.float32)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad(set_to_none=False)
    assert all(not p.grad.numpy().any() for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    model.requires_grad_(False)
    assert not model(np.ones((2, 3), np.float32)).requires_grad
    seen: list[str] = []
    model.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Block"]


def test_replacing_parameters_and_buffers() -> None:
    model = Block()
    with pytest.raises(StructureError, match="is a parameter and is set to a Tensor"):
        model.scale = gx.zeros(3)
    with pytest.raises(StructureError, match="is a buffer and is set to a float"):
        model.mean = 0.0
    model.scale = None
    assert "scale" not in dict(model.named_parameters())
    model.scale = nn.Parameter([1.0, 2.0])
    assert model.scale.shape == (2,)
    del model.mean
    assert [name for name, _ in model.named_buffers()] == ["scratch"]
    for name in ("", "a.b", "forward"):
        with pytest.raises(StructureError, match="cannot be the name"):
            model.register_buffer(name, gx.zeros(1))


def test_copies_and_pickles_are_independent() -> None:
    model = nn.Sequential(Block(), nn.Dropout(0.2))
    x = np.ones((2, 3), np.float32)
    for clone in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(clone[0](x).numpy(), model[0](x).numpy())
        with gx.no_grad():
            clone[0].scale.fill_(5.0)
        assert model[0].scale.tolist() == [1, 1, 1]
        assert [n for n, _ in clone.named_parameters()] == [n for n, _ in model.named_parameters()]


def test_a_module_without_forward() -> None:
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        nn.Module()(1)


# -- while tracing ------------------------------------------------------------------------------------------------------


class Counter(nn.Module):
    def __init__(self) -> None:
        self.register_buffer("total", gx.zeros(3))
        self.hidden: Any = None
        self.count = 0
        self.weight = nn.Parameter(np.ones(3, np.float32))

    def forward(self, x: Any, mode: str) -> Any:
        if mode == "buffer":
            self.total = self.total + x
            return self.total * 2
        if mode == "number":
            self.count += 1
        elif mode == "none":
            self.hidden = x
        elif mode == "new":
            self.extra = x
        elif mode == "type":
            self.total = self.total.sum()
        elif mode == "connected":
            self.total = self.total + self.weight
        elif mode == "delete":
            del self.count
        elif mode == "same":
            self.count = 0
            self.train()
        elif mode == "parameter":
            return nn.Parameter(np.ones(3))
        elif mode == "eval":
            self.eval()
        return x * self.weight


def test_setting_a_buffer_in_compiled_code_writes_into_it() -> None:
    dynamic, model = Counter(), Counter()
    buffer = model.total
    compiled = gx.compile(model)
    for i in range(3):
        x = np.arange(3, dtype=np.float32) + i
        want, got = dynamic(x, "buffer"), compiled(x, "buffer")
        assert got.tolist() == want.tolist()
        assert model.total is buffer and buffer.tolist() == dynamic.total.tolist()
    assert compiled.stats.compiles == 1


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("number", "'count' of a Counter is set to 1 while"),
        ("none", "'hidden' of a Counter is not a tensor yet"),
        ("new", "'extra' of a Counter is new"),
        ("type", "'total' of a Counter is set to a tensor of another type"),
        ("connected", "still connected to the tape"),
        ("delete", "'count' of a Counter is deleted"),
        ("parameter", "a parameter is created while"),
        ("eval", "'training' of a Counter is set to False"),
    ],
)
def test_what_cannot_be_set_in_compiled_code(mode: str, text: str) -> None:
    model = Counter()
    before = dict(model.__dict__)
    with pytest.raises(StateError, match=text) as caught:
        gx.compile(model)(np.ones(3, np.float32), mode)
    assert "test_module.py" in str(caught.value) and "hint:" in str(caught.value)
    assert model.__dict__ == before


def test_setting_what_is_there_already_is_no_change() -> None:
    compiled = gx.compile(Counter())
    x = np.ones(3, np.float32)
    assert compiled(x, "same").tolist() == compiled(x, "same").tolist() == [1, 1, 1]
    assert compiled.stats.compiles == 1


def test_modules_made_in_compiled_code_are_free() -> None:
    class Wrapper(nn.Module):
        def forward(self, x: Any) -> Any:
            inner = nn.Sequential(nn.ReLU(), nn.Dropout(0.5).eval())
            inner.note = x
            inner.note = 3
            return inner(x)

    compiled = gx.compile(Wrapper())
    for i in range(2):
        assert compiled(np.array([-1.0, 2.0], np.float32)).tolist() == [0, 2]
        nn.Identity().note = i  # Some attribute somewhere changes, so that all that was watched is looked at.
    assert compiled.stats.compiles == 1


def test_attributes_that_change_are_noticed() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            self.factor = 2.0

    model = Scale()
    layer = nn.Linear(2, 2)

    @gx.compile
    def f(x: Any) -> Any:
        return x @ layer.weight.T * model.factor

    x = np.ones((1, 2), np.float32)

    def check() -> None:
        np.testing.assert_allclose(f(x).numpy(), x @ layer.weight.numpy().T * model.factor, rtol=1e-6)

    check()
    model.factor = 3.0
    check()
    model.factor = 3.0
    check()
    assert f.stats.compiles == 2
    layer.weight = nn.Parameter(np.full((2, 2), 5.0, np.float32))
    check()
    assert f.stats.compiles == 3
    layer.load_state_dict({"weight": np.zeros((2, 2)), "bias": np.zeros(2)})
    check()
    assert f.stats.compiles == 3


def test_modes_come_back_without_another_compilation() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(1.0))
    compiled = gx.compile(model)
    x = np.ones((1, 2), np.float32)
    for _ in range(3):
        model.train()
        assert not compiled(x).numpy().any()
        model.eval()
        assert compiled(x).numpy().any()
    assert compiled.stats.compiles == 2


def test_a_compiled_module_is_differentiable_and_its_parameters_live() -> None:
    model = nn.Sequential(nn.Linear(3, 4, dtype=np.float64), nn.Tanh(), nn.Linear(4, 2, dtype=np.float64))
    compiled = gx.compile(model)
    x = np.random.default_rng(0).standard_normal((5, 3))
    for _ in range(2):
        grads = []
        for f in (model, compiled):
            model.zero_grad()
            (f(x) ** 2).sum().backward()
            grads.append([p.grad.numpy().copy() for p in model.parameters()])
        for want, got in zip(*grads, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
        with gx.no_grad():
            for p in model.parameters():
                p.assign(p * 0.5)
    assert compiled.stats.compiles == 1


def test_compiled_modules_as_submodules() -> None:
    inner = nn.Linear(3, 3)
    model = nn.Sequential(gx.compile(inner), nn.ReLU())
    model.head = gx.compile(nn.Linear(3, 1))
    assert [n for n, _ in model.named_parameters()] == ["0.weight", "0.bias", "head.weight", "head.bias"]
    assert list(model.state_dict()) == [n for n, _ in model.named_parameters()]
    model.eval()
    assert not inner.training and len(model) == 3 and "(0): compiled Linear(" in repr(model)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(model(x).numpy(), model[2](np.maximum(inner(x).numpy(), 0)).numpy(), rtol=1e-6)
    assert model[0].stats.calls == 1
    whole = gx.compile(model)
    np.testing.assert_allclose(whole(x).numpy(), model(x).numpy(), rtol=1e-6)
