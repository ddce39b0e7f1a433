"""Twenty-five programs of plain Python and NumPy whose control flow depends on values.

None of them knows graphc. Each runs as it is, and compiled as one static graph by `gx.compile(program)`. CASES gives
arguments for each, and which of them the result is differentiated by, where that makes sense.
"""

from __future__ import annotations

import numpy as np


def newton(a, x):
    """Square root by Newton's method, until converged."""
    while abs(x * x - a) > 1e-12 * a:
        x = 0.5 * (x + a / x)
    return x


def bisection(a, low, high):
    """Cube root by bisection."""

    def value(x):
        return x * x * x - a

    while high - low > 1e-12:
        middle = (low + high) / 2
        if value(low) * value(middle) <= 0:
            high = middle
        else:
            low = middle
    return low


def golden_section(c, low, high):
    """Minimum of cosh(x - c) by golden-section search, with a function bound to a name."""
    ratio = (np.sqrt(5.0) - 1) / 2

    def f(x):
        return np.cosh(x - c)

    while high - low > 1e-6:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if f(left) < f(right) else (left, high)
    return (low + high) / 2


def pagerank(links):
    """Ranks of linked pages, until they settle."""
    n = links.shape[0]
    rank = np.ones(n) / n
    change = np.inf
    while change > 1e-10:
        new = 0.15 / n + 0.85 * (links @ rank)
        change = np.abs(new - rank).sum()
        rank = new
    return rank


def power_iteration(matrix, v):
    """Largest eigenvalue of a symmetric matrix; leaves the loop by break."""
    value = 0.0
    for _ in range(1000):
        w = matrix @ v
        new = np.sqrt((w * w).sum())
        v = w / new
        if abs(new - value) < 1e-12:
            break
        value = new
    return value


def conjugate_gradients(matrix, b):
    """Solution of a linear system."""
    x = np.zeros_like(b)
    r = b - matrix @ x
    p, rs = r, r @ r
    for _ in range(200):
        if np.sqrt(rs) < 1e-11:
            break
        product = matrix @ p
        alpha = rs / (p @ product)
        x, r = x + alpha * p, r - alpha * product
        new = r @ r
        p, rs = r + (new / rs) * p, new
    return x


def gcd(a, b):
    """Greatest common divisor."""
    while b:
        a, b = b, a % b
    return a


def collatz(n):
    """Steps to reach 1."""
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def power_modulo(base, exponent, modulus):
    """Modular power by squaring."""
    result = 1
    base = base % modulus
    while exponent > 0:
        if exponent % 2 == 1:
            result = result * base % modulus
        base = base * base % modulus
        exponent = exponent // 2
    return result


def sieve(limit):
    """How many primes there are below a limit that is known at run time only."""
    is_prime = np.ones(200, dtype=bool)
    is_prime[0] = False
    is_prime[1] = False
    i = 2
    while i * i < limit:
        if is_prime[i]:
            j = i * i
            while j < limit:
                is_prime[j] = False
                j += i
        i += 1
    return (is_prime & (np.arange(200) < limit)).sum()


def binary_search(sorted_values, wanted):
    """Index of a value in a sorted array, or -1, by early return."""
    low, high = 0, len(sorted_values) - 1
    while low <= high:
        middle = (low + high) // 2
        if sorted_values[middle] == wanted:
            return middle
        if sorted_values[middle] < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return -1


def insertion_sort(x):
    """Sorting in place."""
    y = np.copy(x)
    for i in range(1, len(y)):
        v = y[i]
        j = i - 1
        while j >= 0 and y[j] > v:
            y[j + 1] = y[j]
            j -= 1
        y[j + 1] = v
    return y


def edit_distance(a, b):
    """Levenshtein distance."""
    previous = np.arange(len(b) + 1)
    for i in range(len(a)):
        current = np.zeros(len(b) + 1, dtype=np.int64)
        current[0] = i + 1
        for j in range(len(b)):
            cost = 0 if a[i] == b[j] else 1
            current[j + 1] = min(previous[j + 1] + 1, current[j] + 1, previous[j] + cost)
        previous = current
    return previous[len(b)]


def knapsack(weights, values, capacity):
    """Best value within a capacity that is known at run time only."""
    best = np.zeros(64)
    for i in range(len(weights)):
        c = capacity
        while c >= weights[i]:
            best[c] = max(best[c], best[c - weights[i]] + values[i])
            c -= 1
    return best[capacity]


def viterbi(emissions, transitions):
    """Likeliest path through a hidden Markov model."""
    steps, states = emissions.shape
    score = emissions[0]
    back = np.zeros((steps, states), dtype=np.int64)
    for t in range(1, steps):
        candidates = score[:, None] + transitions
        back[t] = candidates.argmax(axis=0)
        score = candidates.max(axis=0) + emissions[t]
    path = np.zeros(steps, dtype=np.int64)
    path[steps - 1] = score.argmax()
    for t in range(steps - 2, -1, -1):
        path[t] = back[t + 1, path[t + 1]]
    return path


def beam_search(table, start):
    """Best sequence of eight tokens with a beam of three; stops when the best one ends with token 0."""
    beams = np.zeros((3, 8), dtype=np.int64)
    beams[:, 0] = start
    scores = np.array([0.0, -1e9, -1e9])
    length = 1
    while length < 8 and beams[0, length - 1] != 0:
        candidates = (scores[:, None] + table[beams[:, length - 1]]).ravel()
        order = np.argsort(-candidates)[:3]
        scores = candidates[order]
        beams = beams[order // table.shape[1]]
        beams[:, length] = order % table.shape[1]
        length += 1
    return beams[0], scores[0]


def kalman(measurements, noise):
    """A scalar Kalman filter that skips what is missing (NaN)."""
    x, p = 0.0, 1.0
    for z in measurements:
        p = p + 0.01
        if not np.isnan(z):
            gain = p / (p + noise)
            x = x + gain * (z - x)
            p = (1 - gain) * p
    return x


def recurrent_network(inputs, w, u, threshold):
    """A recurrent network that stops early when its state is large."""
    h = np.zeros(w.shape[0])
    for x in inputs:
        h = np.tanh(w @ h + u @ x)
        if np.abs(h).sum() > threshold:
            return h * 2
    return h


def k_means(points, centres):
    """Clusters until they are stable."""
    moved = np.inf
    while moved > 1e-12:
        distances = ((points[:, None] - centres[None]) ** 2).sum(-1)
        member = (distances.argmin(1)[:, None] == np.arange(centres.shape[0])).astype(points.dtype)
        new = (member.T @ points) / np.maximum(member.sum(0)[:, None], 1)
        moved = np.abs(new - centres).max()
        centres = new
    return centres


def mandelbrot(re, im):
    """Rounds until each point escapes."""
    counts = np.zeros(len(re), dtype=np.int64)
    for k in range(len(re)):
        x, y, n = 0.0, 0.0, 0
        while x * x + y * y <= 4.0 and n < 60:
            x, y = x * x - y * y + re[k], 2 * x * y + im[k]
            n += 1
        counts[k] = n
    return counts


def adaptive_ode(y, rate, tolerance):
    """y' = -rate * y with a step that follows the error."""
    t, h = 0.0, 0.1
    while t < 1.0:
        if t + h > 1.0:
            h = 1.0 - t
        k1 = -rate * y
        k2 = -rate * (y + h * k1)
        coarse, fine = y + h * k1, y + h * (k1 + k2) / 2
        error = np.abs(fine - coarse).max()
        if error < tolerance:
            t, y = t + h, fine
        h = h * min(2.0, max(0.2, 0.9 * np.sqrt(tolerance / (error + 1e-30))))
    return y


def simulated_annealing(numbers, x):
    """Minimises a bumpy function with given random numbers."""

    def energy(z):
        return 0.1 * z * z + np.cos(3 * z)

    temperature = 2.0
    best = x
    for pair in numbers:
        candidate = x + 2 * (pair[0] - 0.5)
        if energy(candidate) < energy(x) or pair[1] < np.exp((energy(x) - energy(candidate)) / temperature):
            x = candidate
            if energy(x) < energy(best):
                best = x
        temperature *= 0.97
    return best


def game_of_life(board):
    """Generations until nothing changes, at most 60."""
    generations = 0
    changed = True
    while changed and generations < 60:
        neighbours = 0 * board
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if dy or dx:
                    neighbours = neighbours + np.roll(board, (dy, dx), axis=(0, 1))
        new = ((neighbours == 3) | ((board == 1) & (neighbours == 2))).astype(board.dtype)
        changed = (new != board).any()
        board = new
        generations += 1
    return board, generations


def floyd_warshall(distance):
    """Shortest paths between all nodes."""
    d = np.copy(distance)
    n = d.shape[0]
    for k in range(n):
        for i in range(n):
            for j in range(n):
                through = d[i, k] + d[k, j]
                if through < d[i, j]:  # noqa: PLR1730
                    d[i, j] = through
    return d


def line_search(w, target):
    """Gradient descent on a quartic with backtracking, `continue` and a limit."""
    step = 1.0
    for _ in range(60):
        residual = w * w - target
        gradient = 4 * residual * w
        new = w - step * gradient
        if ((new * new - target) ** 2).sum() > (residual**2).sum():
            step *= 0.5
            continue
        w = new
        if np.abs(gradient).max() < 1e-9:
            break
    return w


_RNG = np.random.default_rng(7)
_LINKS = _RNG.random((6, 6))
_SYMMETRIC = _RNG.standard_normal((5, 5))
_SYMMETRIC = _SYMMETRIC @ _SYMMETRIC.T + np.eye(5)
_GLIDER = np.zeros((8, 8), np.int64)
_GLIDER[[0, 1, 2, 2, 2, 5, 5, 6, 6], [1, 2, 0, 1, 2, 5, 6, 5, 6]] = 1


def _word(text: bytes) -> np.ndarray:
    return np.frombuffer(text, np.uint8)


#: (program, arguments of a few calls, the argument to differentiate by or None).
CASES = [
    (newton, [(2.0, 1.0), (1e4, 3.0)], 0),
    (bisection, [(2.0, 0.0, 2.0), (5.0, 0.0, 3.0)], None),
    (golden_section, [(0.3, -2.0, 2.0), (1.2, -1.0, 4.0)], None),
    (pagerank, [(_LINKS / _LINKS.sum(axis=0),)], None),
    (power_iteration, [(_SYMMETRIC, np.ones(5))], 0),
    (conjugate_gradients, [(_SYMMETRIC, _RNG.standard_normal(5))], 1),
    (gcd, [(np.int64(48), np.int64(18)), (np.int64(17), np.int64(5))], None),
    (collatz, [(np.int64(27),), (np.int64(1),)], None),
    (power_modulo, [(np.int64(7), np.int64(560), np.int64(561)), (np.int64(3), np.int64(0), np.int64(5))], None),
    (sieve, [(np.int64(100),), (np.int64(3),)], None),
    (binary_search, [(np.arange(0, 60, 3), np.int64(v)) for v in (0, 57, 33, 34)], None),
    (insertion_sort, [(_RNG.permutation(12).astype(np.float64),)], None),
    (edit_distance, [(_word(b"kitten sitting"), _word(b"sitting kittens")), (_word(b"abc"), _word(b"abc"))], None),
    (knapsack, [(np.array([3, 4, 7, 9]), np.array([4.0, 5, 10, 12]), np.int64(c)) for c in (0, 10, 20)], None),
    (viterbi, [(_RNG.standard_normal((7, 3)), _RNG.standard_normal((3, 3)))], None),
    (beam_search, [(_RNG.standard_normal((5, 5)), np.int64(s)) for s in (1, 3)], None),
    (kalman, [(np.array([1.0, np.nan, 1.2, 0.9, np.nan, 1.1, 1.0, 0.8, 1.3, 1.0]), 0.1)], 1),
    (
        recurrent_network,
        [(_RNG.standard_normal((9, 2)), 0.5 * _SYMMETRIC[:4, :4], np.ones((4, 2)), c) for c in (3.5, 99.0)],
        1,
    ),
    (k_means, [(_RNG.standard_normal((40, 2)), _RNG.standard_normal((3, 2)))], 0),
    (mandelbrot, [(np.linspace(-2, 0.5, 9), np.linspace(-1, 1, 9))], None),
    (adaptive_ode, [(np.ones(2), 1.5, 1e-4)], 0),
    (simulated_annealing, [(_RNG.random((40, 2)), 3.0)], 1),
    (game_of_life, [(_GLIDER,)], None),
    (floyd_warshall, [(_RNG.random((5, 5)) * 9 + 1,)], None),
    (line_search, [(np.array([2.0, -0.5, 1.0]), np.array([1.0, 2.0, 0.5]))], None),
]
