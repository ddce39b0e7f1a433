"""Python control flow as graph: functions are rewritten so that `if`, `while` and `for` on traced values become nodes.

`lowering` rewrites syntax trees, `convert` makes functions of them, `operators` is what rewritten code calls.
"""
