"""Benchmarks of graphc against NumPy, PyTorch and JAX: `python -m benchmarks` from the repository's root.

Not part of the installed package. `workloads` says what is computed on which data, `programs_<framework>` holds the code
as the framework's users would write it, `worker` runs one framework in a process of its own, `contest` commands the
workers in interleaved rounds, `cold` starts fresh processes for first calls, and `report` makes the tables.
"""
