"""What rewritten code calls: Python's control flow, by the values at hand. Layer 5, rewriting.

Each operator first looks whether its condition is a traced value. If not, it does what Python does; a `while` may turn from one
to the other midway. If it is, the region becomes a node (see `regions`).
"""
