"""Optimisers. Layer 6. Names and meanings are PyTorch's."""

from graphc.optim import lr_scheduler as lr_scheduler
from graphc.optim.adam import Adam as Adam
from graphc.optim.adam import AdamW as AdamW
from graphc.optim.moments import NAdam as NAdam
from graphc.optim.moments import RAdam as RAdam
from graphc.optim.optimizer import Optimizer as Optimizer
from graphc.optim.optimizer import ParamGroup as ParamGroup
from graphc.optim.scaled import Adadelta as Adadelta
from graphc.optim.scaled import Adagrad as Adagrad
from graphc.optim.scaled import Lion as Lion
from graphc.optim.scaled import RMSprop as RMSprop
from graphc.optim.sgd import SGD as SGD
