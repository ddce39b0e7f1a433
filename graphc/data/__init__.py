"""Datasets and loaders. Layer 6. Names and meanings are PyTorch's."""

from graphc.data.dataset import Dataset as Dataset
from graphc.data.dataset import Subset as Subset
from graphc.data.dataset import TensorDataset as TensorDataset
from graphc.data.dataset import random_split as random_split
from graphc.data.loader import DataLoader as DataLoader
from graphc.data.loader import default_collate as default_collate
