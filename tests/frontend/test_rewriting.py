"""Rewritten functions do what the originals do when no condition is traced: all of Python's control flow."""

import linecache
import traceback

import numpy as np
import pytest

from graphc.frontend.rewriting import operators
from graphc.frontend.rewriting.conversion import Conversion, rewriting
from graphc.frontend.rewriting.convert import NoSourceError, convert


def loops(n):
    total = 0
    for i in range(n):
        if i % 3 == 0:
            continue
        if i > 10:
            break
        for j in range(i):
            if j == 5:
                break
            total += j
        else:
            total += 100
    else:
        total += 1000
    return total


def collatz(n):
    while n > 1:
        if n == 7:
            return "seven"
        n = n // 2 if n % 2 == 0 else 3 * n + 1
    return n


def while_else(n):
    found = []
    while n:
        n -= 1
        if n % 4 == 3:
            continue
        if n == 5:
            break
        found.append(n)
    else:
        found.append("end")
    return found


def early(x):
    """Returns from branches, try and with."""
    if x < 0:
        return -1
    elif x == 0:
        return 0
    y = x
    try:
        if y > 5:
            raise ValueError(y)
        return "small"
    except ValueError as error:
        z = str(error)
    finally:
        y = 0
    with np.errstate(all="ignore"):
        if z == "6":
            return "six"
    return z + str(y)


class Base:
    def name(self):
        return "base"


class Private(Base):
    def __init__(self):
        self.__hidden = 3

    def method(self, x, *, k=2):
        if (x > 2 and not x > 5) or x == 0:
            return self.__hidden * k
        return super().name()

    @staticmethod
    def fixed(x):
        return 1 if x else 2


def closures(pairs):
    out = []
    total = 0

    def add(v, k=2):
        nonlocal total
        if v > 1:
            total += v * k
        return total

    for a, b in pairs:
        if 0 < a < b < 10:
            out.append(add(a))
        elif (n := a + b) > 5:
            out.append(n)
    choose = lambda q: "yes" if q else "no"  # noqa: E731
    pick = lambda *a, k=3: a and k  # noqa: E731
    return out, total, [choose(v) for v in (0, 1)], pick(1)


def matching(x):
    match x:
        case [a, b]:
            if a:
                return a
            r = b
        case {"k": v, **rest}:
            r = v + len(rest)
        case _:
            return None
    while True:
        r += 1
        if r > 10:
            break
    return r


def finally_and_delete(n):
    x = 1
    del x
    for i in range(n):
        try:
            if i == 1:
                return i
        finally:
            x = i
    return str(x) if n else None


def comprehensions(n):
    squares = {k: k * k for k in range(n) if k % 2}
    nested = [[j for j in range(i) if j] for i in range(n)]
    return squares, nested, sum(k for k in squares), any(k > 2 for k in squares), {*range(n)}


def nested_loops_with_return(n):
    for i in range(n):
        for j in range(n):
            if i * j == 6:
                return i, j
        while j > 3:
            j -= 1
            if j == i:
                break
    return None


def falls_off(n):
    if n > 2:
        return n
    if n > 1:
        n += 1


def lambdas(n):
    f, g = (lambda x: x or 5), (lambda x: x and 6)
    return f(n), g(n), (not n), 1 < n < 3, None is not n


def generators(n):
    def numbers():
        for i in range(n):
            if i % 2:
                yield i

    return list(numbers())


CASES = [
    (loops, [(0,), (5,), (20,)]),
    (collatz, [(6,), (27,), (1,), (14,)]),
    (while_else, [(0,), (3,), (20,)]),
    (early, [(-1,), (0,), (3,), (6,), (8,)]),
    (Private().method, [(0,), (3,), (9,)]),
    (Private.fixed, [(0,), (1,)]),
    (closures, [([(1, 2), (2, 3), (5, 2), (1, 1)],), ([],)]),
    (matching, [([0, 1],), ([4, 1],), ({"k": 20, "l": 1},), (3,)]),
    (finally_and_delete, [(0,), (1,), (5,)]),
    (comprehensions, [(0,), (5,)]),
    (nested_loops_with_return, [(0,), (4,), (9,)]),
    (falls_off, [(3,), (2,), (1,)]),
    (lambdas, [(0,), (2,), (4,)]),
    (generators, [(5,)]),
]


@pytest.mark.parametrize(("function", "calls"), CASES, ids=lambda x: getattr(x, "__name__", ""))
def test_rewritten_functions_do_what_they_did(function, calls):
    with rewriting(operators) as conversion:
        rewritten = conversion.converted(function)
        assert rewritten is not function
        for args in calls:
            assert rewritten(*args) == function(*args)


def test_a_rewritten_function_keeps_its_face():
    rewritten = Conversion(operators).converted(early)
    assert (rewritten.__name__, rewritten.__doc__, rewritten.__module__) == ("early", early.__doc__, __name__)
    assert rewritten.__globals__ is early.__globals__
    assert rewritten.__code__.co_filename == early.__code__.co_filename


def fails(x):
    if x:
        while True:
            y = 1
            return y / 0
    return 0


def test_tracebacks_show_the_users_lines():
    with rewriting(operators) as conversion, pytest.raises(ZeroDivisionError) as caught:
        conversion.converted(fails)(1)
    mine = [f for f in traceback.extract_tb(caught.value.__traceback__) if f.filename == __file__]
    assert mine[-1].line == "return y / 0"
    assert {f.name for f in mine[1:]} == {"fails"}


def test_live_globals_and_cells(monkeypatch):
    cell = 1

    def reads():
        return cell + LIMIT

    with rewriting(operators) as conversion:
        rewritten = conversion.converted(reads)
        assert rewritten() == 11
        cell = 2
        monkeypatch.setitem(globals(), "LIMIT", 20)
        assert rewritten() == 22


LIMIT = 10


def test_functions_without_source_stay():
    namespace = {}
    exec("def made(x):\n    return x if x else 1", namespace)
    with pytest.raises(NoSourceError, match="no source"):
        convert(namespace["made"], operators)
    conversion = Conversion(operators)
    assert conversion.converted(namespace["made"]) is namespace["made"]
    assert "made" in conversion.failures


def test_source_registered_with_linecache_is_found():
    text = "def made(x):\n    return x if x else 1\n"
    linecache.cache["<made>"] = (len(text), None, text.splitlines(True), "<made>")
    namespace = {}
    exec(compile(text, "<made>", "exec"), namespace)
    assert convert(namespace["made"], operators)(0) == 1


def test_source_that_has_changed_is_refused():
    text = "def made(x):\n    y = x\n    return y\n"
    namespace = {}
    exec(compile(text, "<changed>", "exec"), namespace)
    other = "def made(x, z):\n    return x\n"
    linecache.cache["<changed>"] = (len(other), None, other.splitlines(True), "<changed>")
    with pytest.raises(NoSourceError, match="any more"):
        convert(namespace["made"], operators)


def test_lambdas_of_one_line_are_told_apart():
    functions = [
        lambda x: x or np.array([x, 1]),
        lambda x: x and 2,
        lambda x: sorted([x, 1], key=lambda y: y and x),
        lambda x: not x,
    ]
    conversion = Conversion(operators)
    with rewriting(operators):
        for function in functions:
            rewritten = conversion.converted(function)
            assert rewritten is not function
            for x in (0, 3):
                np.testing.assert_array_equal(rewritten(x), function(x))
    assert not conversion.failures
