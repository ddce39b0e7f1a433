"""Modules, layers, losses and initial values. Layer 6. Names and meanings are PyTorch's."""

from graphc.nn import functional as functional
from graphc.nn import init as init
from graphc.nn.containers import ModuleList as ModuleList
from graphc.nn.containers import Sequential as Sequential
from graphc.nn.layers import GELU as GELU
from graphc.nn.layers import Dropout as Dropout
from graphc.nn.layers import Flatten as Flatten
from graphc.nn.layers import Identity as Identity
from graphc.nn.layers import Linear as Linear
from graphc.nn.layers import ReLU as ReLU
from graphc.nn.layers import Sigmoid as Sigmoid
from graphc.nn.layers import Softmax as Softmax
from graphc.nn.layers import Tanh as Tanh
from graphc.nn.module import LoadResult as LoadResult
from graphc.nn.module import Module as Module
from graphc.nn.module import Parameter as Parameter
