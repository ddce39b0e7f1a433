"""Optimisers. Layer 6. Names and meanings are PyTorch's."""

from graphc.optim.adam import Adam as Adam
from graphc.optim.adam import AdamW as AdamW
from graphc.optim.optimizer import Optimizer as Optimizer
from graphc.optim.optimizer import ParamGroup as ParamGroup
from graphc.optim.sgd import SGD as SGD
