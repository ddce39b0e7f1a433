"""The table of the model library: layers, losses, optimisers and helpers, and what is there of them. Layer 7.

`python -m graphc.tools.models` prints docs/models.md. A row is done when the name is there; what is missing has a reason in
`MISSING`, and a test wants a reason for every name that is missing and for no other.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc import nn, optim

__all__ = ["MISSING", "SECTIONS", "has", "page"]

#: Names by subject; those with a dot are found below `nn` or `optim`.
SECTIONS: Mapping[str, str] = {
    "Modules": """nn.Module nn.Parameter nn.Sequential nn.ModuleList nn.ModuleDict nn.Module.state_dict
        nn.Module.load_state_dict nn.Module.apply nn.Module.to nn.Module.float nn.Module.double nn.Module.requires_grad_
        nn.Module.register_forward_hook nn.Module.register_forward_pre_hook nn.summary""",
    "Layers": """nn.Linear nn.Bilinear nn.Embedding nn.Flatten nn.Identity nn.Conv1d nn.Conv2d nn.Conv3d nn.ConvTranspose1d
        nn.ConvTranspose2d nn.ConvTranspose3d nn.MaxPool1d nn.MaxPool2d nn.MaxPool3d nn.AvgPool1d nn.AvgPool2d nn.AvgPool3d
        nn.AdaptiveAvgPool1d nn.AdaptiveAvgPool2d nn.AdaptiveAvgPool3d nn.Upsample nn.PixelShuffle""",
    "Normalisation": """nn.BatchNorm1d nn.BatchNorm2d nn.BatchNorm3d nn.LayerNorm nn.GroupNorm nn.InstanceNorm1d
        nn.InstanceNorm2d nn.InstanceNorm3d nn.RMSNorm""",
    "Dropout": "nn.Dropout nn.Dropout1d nn.Dropout2d nn.Dropout3d nn.AlphaDropout",
    "Recurrent": "nn.RNN nn.LSTM nn.GRU nn.RNNCell nn.LSTMCell nn.GRUCell",
    "Attention": """nn.functional.scaled_dot_product_attention nn.MultiheadAttention nn.KeyValueCache
        nn.TransformerEncoderLayer nn.TransformerDecoderLayer nn.TransformerEncoder nn.TransformerDecoder nn.Transformer
        nn.SinusoidalEncoding nn.RotaryEmbedding""",
    "Activations": """nn.CELU nn.ELU nn.GELU nn.GLU nn.SELU nn.Hardshrink nn.Hardsigmoid nn.Hardswish nn.Hardtanh nn.LeakyReLU
        nn.LogSigmoid nn.LogSoftmax nn.Mish nn.PReLU nn.ReLU nn.ReLU6 nn.Sigmoid nn.SiLU nn.Softmax nn.Softmin nn.Softplus
        nn.Softshrink nn.Softsign nn.Tanh nn.Tanhshrink nn.Threshold""",
    "Initial values": """nn.init.uniform_ nn.init.normal_ nn.init.constant_ nn.init.zeros_ nn.init.ones_
        nn.init.xavier_uniform_ nn.init.xavier_normal_ nn.init.kaiming_uniform_ nn.init.kaiming_normal_ nn.init.orthogonal_
        nn.init.trunc_normal_""",
}

#: Why a name is missing.
MISSING: Mapping[str, str] = {
    "nn.ModuleDict": "to be done",
    "nn.summary": "to be done",
    "nn.init.orthogonal_": "to be done",
    "nn.init.trunc_normal_": "to be done",
}

_ROOTS = {"nn": nn, "optim": optim}


def has(name: str) -> bool:
    """Whether a dotted name is there."""
    root, *parts = name.split(".")
    found: object = _ROOTS[root]
    for part in parts:
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def page() -> str:
    """The text of docs/models.md."""
    names = {title: text.split() for title, text in SECTIONS.items()}
    done = sum(has(name) for group in names.values() for name in group)
    total = sum(map(len, names.values()))
    lines = [
        "# The model library",
        "",
        "Written by `python -m graphc.tools.models`; tests/tools/test_models.py wants it current.",
        "",
        f"{done} of {total} are done. Layers with parameters are compared with PyTorch in tests/nn/test_against_torch.py:",
        "outputs, gradients, ten steps of training, names of the state; dynamically and compiled.",
    ]
    for title, group in names.items():
        lines += ["", f"## {title}", "", "| name | state |", "|---|---|"]
        lines += [f"| `{name}` | {'done' if has(name) else 'not done: ' + MISSING.get(name, '')} |" for name in group]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
